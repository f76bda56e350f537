//! Agents, revisions, builds, replicas, hosts, instances, sources.

use parallax_core::build::BuildPhase;
use parallax_core::quantity::MemoryBytes;
use parallax_core::replica::{Observation, Replica, ReplicaPhase, Want};
use parallax_core::status::{Phase, Status};
use parallax_store::sources::Source;
use parallax_store::{
    Constraint, Page, StoreError, agents, builds, hosts, instances, replicas, revisions, sources,
};

use crate::database::on_both;
use crate::samples::{self, at};

on_both! {
    async fn an_agent_is_read_as_it_was_written(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let agent = samples::agent(tenant, 1);
        let given = agent.clone();
        store
            .write(tenant, given, |tx, agent| Box::pin(agents::insert(tx, agent)))
            .await
            .expect("the agent is new");
        let mut tx = store.read(tenant).await.expect("a reader");
        let by_id = agents::get(&mut tx, agent.id).await.expect("reads");
        let by_name = agents::by_name(&mut tx, &agent.name).await.expect("reads");
        assert_eq!((by_id.as_ref(), by_name.as_ref()), (Some(&agent), Some(&agent)));
    }

    async fn agents_are_counted_by_phase_and_by_what_is_confirmed(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let of = |n: u8, phase, unconfirmed| {
            let mut agent = samples::agent(tenant, n);
            agent.name = samples::name(&format!("agent-{n}"));
            agent.status.phase = phase;
            agent.status.replicas.unconfirmed = unconfirmed;
            agent
        };
        let all = vec![
            of(1, Phase::Ready, 0),
            of(2, Phase::Ready, 3),
            of(3, Phase::Ready, 10),
            of(4, Phase::Failed, 0),
        ];
        let ids: Vec<_> = all.iter().map(|agent| agent.id).collect();
        store
            .write(tenant, all, |tx, all| Box::pin(async move {
                for agent in all {
                    agents::insert(tx, agent).await?;
                }
                Ok::<_, StoreError>(())
            }))
            .await
            .expect("they are new");
        let mut tx = store.read(tenant).await.expect("a reader");
        let count = |phase, unconfirmed, agents| agents::Count { phase, unconfirmed, agents };
        assert_eq!(
            agents::count(&mut tx).await.expect("reads"),
            [
                count(Phase::Failed, false, 1),
                count(Phase::Ready, false, 1),
                count(Phase::Ready, true, 2),
            ]
        );
        assert_eq!(agents::ids(&mut tx).await.expect("reads"), ids);
        drop(tx);
        let mut system = store.system_read().await.expect("a reader");
        let of_all = agents::ids_of_all(&mut system).await.expect("reads");
        assert_eq!(of_all, ids.iter().map(|id| (tenant, *id)).collect::<Vec<_>>());
    }

    async fn two_agents_cannot_have_one_name(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let first = samples::agent(tenant, 1);
        let mut second = samples::agent(tenant, 2);
        second.name = first.name.clone();
        let insert = |agent| {
            store.write(tenant, agent, |tx, agent| Box::pin(agents::insert(tx, agent)))
        };
        insert(first).await.expect("the name is free");
        let error = insert(second).await.expect_err("the name is taken");
        assert!(matches!(error, StoreError::Unique(Constraint::AgentName)), "{error:?}");
        let error = parallax_core::error::Error::from(error);
        assert_eq!(error.code, parallax_core::error::Code::AlreadyExists);
        assert_eq!(error.to_string(), "an agent of this name exists already");
    }

    async fn what_agents_should_run_is_read_for_a_stretch_of_their_names(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let named = |n: u8, name: &str| {
            let mut agent = samples::agent(tenant, n);
            let revision = samples::revision(tenant, agent.id, n);
            agent.name = samples::name(name);
            agent.revision = Some(revision.id);
            let mut build = samples::build(&revision, n);
            build.plan_json = Some(format!("{{\"plan\":{n}}}"));
            (agent, revision, build)
        };
        let all = vec![named(1, "a"), named(2, "b"), named(3, "c")];
        let wanted = (all[1].1.id, all[1].1.build_key.clone());
        store
            .write(tenant, all, |tx, all| Box::pin(async move {
                for (agent, revision, build) in all {
                    agents::insert(tx, agent).await?;
                    revisions::insert(tx, revision).await?;
                    builds::insert(tx, build).await?;
                }
                Ok::<_, StoreError>(())
            }))
            .await
            .expect("they are new");
        let mut tx = store.read(tenant).await.expect("a reader");
        let (b, bz) = (samples::name("b"), samples::name("bz"));
        let found = revisions::wanted_between(&mut tx, (&b, &bz)).await.expect("reads");
        let found: Vec<_> = found.into_iter().map(|revision| revision.id).collect();
        assert_eq!(found, [wanted.0]);
        let plans = builds::plans_between(&mut tx, (&b, &bz)).await.expect("reads");
        assert_eq!(plans, [(wanted.1, "{\"plan\":2}".to_owned())]);
    }

    async fn every_row_that_speaks_of_a_source_counts(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let digest = |first: &str| format!("sha256:{first}{}", "0".repeat(62));
        let agent = samples::agent(tenant, 1);
        let mut revision = samples::revision(tenant, agent.id, 1);
        revision.source_digest = digest("ab");
        let mut build = samples::build(&revision, 1);
        build.source_digest = digest("af");
        build.phase = BuildPhase::Running;
        let uploaded = Source {
            tenant,
            digest: digest("b0"),
            size_bytes: 1,
            created_at: at(1),
        };
        store
            .write(tenant, (revision, build, uploaded), |tx, (revision, build, uploaded)| {
                Box::pin(async move {
                    revisions::insert(tx, revision).await?;
                    builds::insert(tx, build).await?;
                    sources::put(tx, uploaded).await
                })
            })
            .await
            .expect("they are new");
        let mut tx = store.read(tenant).await.expect("a reader");
        for (first, end, expected) in [("ab", "abg", 1), ("af", "afg", 1), ("b0", "b0g", 1), ("b1", "b1g", 0)] {
            let range = (format!("sha256:{first}"), format!("sha256:{end}"));
            let known = sources::known_between(&mut tx, (&range.0, &range.1)).await;
            assert_eq!(known.expect("reads").len(), expected, "{first}");
        }
    }

    async fn agents_are_listed_by_name_in_pages_and_by_phase(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let names = ["b", "a-1", "a1", "z", "a"];
        let list: Vec<_> = names.iter().zip(1..).map(|(name, n)| {
            let mut agent = samples::agent(tenant, n);
            agent.name = samples::name(name);
            if n == 4 {
                agent.status = Status::pending(at(1));
            }
            agent
        }).collect();
        store
            .write(tenant, list, |tx, list| Box::pin(async move {
                for agent in list {
                    agents::insert(tx, agent).await?;
                }
                Ok::<_, StoreError>(())
            }))
            .await
            .expect("they are new");
        let mut tx = store.read(tenant).await.expect("a reader");
        let mut page = Page::first(2);
        let mut seen = Vec::new();
        loop {
            let listed = agents::list(&mut tx, None, &page).await.expect("reads");
            assert!(listed.items.len() <= 2);
            seen.extend(listed.items.into_iter().map(|agent| agent.name.to_string()));
            let Some(last) = seen.last().filter(|_| listed.more) else { break };
            page = Page::after(last, 2);
        }
        assert_eq!(seen, ["a", "a-1", "a1", "b", "z"]);
        let pending = agents::list(&mut tx, Some(Phase::Pending), &Page::first(9)).await;
        let pending = pending.expect("reads");
        assert_eq!((pending.items.len(), pending.more), (1, false));
    }

    async fn an_agent_is_updated_only_from_the_generation_that_was_read(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let mut agent = samples::agent(tenant, 1);
        let given = agent.clone();
        store
            .write(tenant, given, |tx, agent| Box::pin(agents::insert(tx, agent)))
            .await
            .expect("new");
        agent.generation = 2;
        agent.replicas = 7;
        agent.delete = None;
        agent.revision = None;
        let update = |expected| {
            let given = (agent.clone(), expected);
            store.write(tenant, given, |tx, (agent, expected)| {
                Box::pin(agents::update(tx, agent, *expected))
            })
        };
        assert!(update(1).await.expect("writes"));
        assert!(!update(1).await.expect("writes"), "its generation is 2 by now");
        let (id, status) = (agent.id, Status::pending(at(8)));
        agent.status = status.clone();
        agent.updated_at = at(9);
        store
            .write(tenant, (id, status), |tx, (id, status)| {
                Box::pin(agents::set_status(tx, *id, status, at(9)))
            })
            .await
            .expect("it exists");
        let mut tx = store.read(tenant).await.expect("a reader");
        assert_eq!(agents::get(&mut tx, id).await.expect("reads"), Some(agent));
        drop(tx);
        let deleted = store.write(tenant, id, |tx, id| Box::pin(agents::delete(tx, *id)));
        assert!(deleted.await.expect("writes"));
        let again = store.write(tenant, id, |tx, id| Box::pin(agents::delete(tx, *id)));
        assert!(!again.await.expect("writes"));
    }

    async fn revisions_count_from_one_for_each_agent(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let insert = |agent, n| {
            let revision = samples::revision(tenant, samples::agent_id(agent), n);
            store.write(tenant, revision, |tx, revision| {
                Box::pin(revisions::insert(tx, revision))
            })
        };
        assert_eq!(insert(1, 1).await.expect("writes"), 1);
        assert_eq!(insert(1, 2).await.expect("writes"), 2);
        assert_eq!(insert(2, 3).await.expect("writes"), 1);
        let mut tx = store.read(tenant).await.expect("a reader");
        let agent = samples::agent_id(1);
        let mut second = samples::revision(tenant, agent, 2);
        second.number = 2;
        assert_eq!(revisions::latest(&mut tx, agent).await.expect("reads"), Some(second.clone()));
        assert_eq!(revisions::get(&mut tx, second.id).await.expect("reads"), Some(second.clone()));
        assert_eq!(
            revisions::by_number(&mut tx, agent, 2).await.expect("reads"),
            Some(second.clone())
        );
        let newest = revisions::list(&mut tx, agent, None, 1).await.expect("reads");
        assert_eq!((newest.items, newest.more), (vec![second], true));
        let rest = revisions::list(&mut tx, agent, Some(2), 1).await.expect("reads");
        assert_eq!((rest.items[0].number, rest.more), (1, false));
    }

    async fn a_host_has_one_build_of_a_source(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let revision = samples::revision(tenant, samples::agent_id(1), 1);
        let mut build = samples::build(&revision, 1);
        // Longer than an index of PostgreSQL's takes.
        build.key = "k".repeat(9_000);
        let insert = |build| {
            store.write(tenant, build, |tx, build| Box::pin(builds::insert(tx, build)))
        };
        insert(build.clone()).await.expect("the first");
        let mut twin = samples::build(&revision, 2);
        twin.key = build.key.clone();
        let error = insert(twin).await.expect_err("the same key on the same host");
        assert!(matches!(error, StoreError::Unique(Constraint::BuildKey)), "{error:?}");
        let active = |store: parallax_store::Store, host| async move {
            let mut tx = store.system_read().await.expect("a reader");
            builds::list_active(&mut tx, host).await.expect("reads").len()
        };
        assert_eq!(active(store.clone(), build.host).await, 1);
        build.phase = BuildPhase::Succeeded;
        build.reason = None;
        build.cached = false;
        build.message.clear();
        let given = build.clone();
        store
            .write(tenant, given, |tx, build| Box::pin(builds::update_progress(tx, build)))
            .await
            .expect("it exists");
        assert_eq!(active(store.clone(), build.host).await, 0);
        let mut tx = store.read(tenant).await.expect("a reader");
        let by_key = builds::by_key(&mut tx, build.host, &build.key).await.expect("reads");
        assert_eq!(by_key.as_ref(), Some(&build));
        assert_eq!(builds::get(&mut tx, build.id).await.expect("reads"), by_key);
        assert_eq!(builds::list_for_key(&mut tx, &build.key).await.expect("reads"), [build]);
    }

    async fn a_build_that_another_agent_needs_stays_when_its_agent_goes(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let mine = samples::revision(tenant, samples::agent_id(1), 1);
        let mut others = samples::revision(tenant, samples::agent_id(2), 2);
        others.source_digest = mine.source_digest.clone();
        others.build_key = mine.build_key.clone();
        let own = samples::revision(tenant, samples::agent_id(1), 3);
        let all = (mine, others, own);
        let (deleted, left) = store
            .write(tenant, all, |tx, (mine, others, own)| Box::pin(async move {
                for revision in [mine, others, own] {
                    revisions::insert(tx, revision).await?;
                }
                builds::insert(tx, &samples::build(mine, 1)).await?;
                builds::insert(tx, &samples::build(own, 3)).await?;
                let deleted = builds::delete_for_agent(tx, mine.agent).await?;
                let left = builds::list_for_agent(tx, mine.agent, 9).await?;
                Ok::<_, StoreError>((deleted, left.len()))
            }))
            .await
            .expect("writes");
        assert_eq!((deleted, left), (1, 1));
    }

    async fn a_replica_is_read_as_it_was_written(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let mut replica = samples::replica(tenant, samples::agent_id(1), 1);
        let given = replica.clone();
        store
            .write(tenant, given, |tx, replica| Box::pin(replicas::insert(tx, replica)))
            .await
            .expect("new");
        let mut tx = store.read(tenant).await.expect("a reader");
        assert_eq!(replicas::get(&mut tx, replica.id).await.expect("reads"), Some(replica.clone()));
        drop(tx);
        replica.want = Want::Stop;
        replica.observed = Observation::nothing_yet();
        replica.updated_at = at(30);
        store
            .write(tenant, replica.id, |tx, id| Box::pin(async move {
                replicas::set_want(tx, *id, Want::Stop, at(29)).await?;
                replicas::set_observed(tx, *id, &Observation::nothing_yet(), at(30)).await
            }))
            .await
            .expect("it exists");
        let mut tx = store.system_read().await.expect("a reader");
        let on_host = replicas::list_for_host(&mut tx, replica.host).await.expect("reads");
        drop(tx);
        let mut tx = store.read(tenant).await.expect("a reader");
        let of_agent = replicas::list_for_agent(&mut tx, replica.agent).await.expect("reads");
        assert_eq!((on_host, of_agent), (vec![replica.clone()], vec![replica]));
    }

    async fn what_is_reserved_on_a_host_is_what_should_run_there(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let agent = samples::agent(tenant, 1);
        let mut revision = samples::revision(tenant, agent.id, 1);
        revision.spec.resources.memory = Some(MemoryBytes::new(1 << 20));
        let resources = revision.spec.resources.clone();
        let host = samples::host(tenant, 1).id;
        // One in each phase, and one more that is to stop.
        let phases = ReplicaPhase::ALL.iter().zip(1..);
        let mut all: Vec<_> = phases
            .map(|(phase, n)| {
                let mut replica = samples::replica(tenant, agent.id, n);
                replica.revision = revision.id;
                replica.observed.phase = *phase;
                replica
            })
            .collect();
        let mut stopping = all[0].clone();
        stopping.id = samples::replica(tenant, agent.id, 99).id;
        stopping.want = Want::Stop;
        all.push(stopping);
        let run = |r: &&Replica| r.want == Want::Run && !r.observed.phase.is_over();
        let expected = all.iter().filter(run).count();
        store
            .write(tenant, (agent, revision, all), |tx, (agent, revision, all)| {
                Box::pin(async move {
                    agents::insert(tx, agent).await?;
                    revisions::insert(tx, revision).await?;
                    for replica in all {
                        replicas::insert(tx, replica).await?;
                    }
                    Ok::<_, StoreError>(())
                })
            })
            .await
            .expect("they are new");
        let mut tx = store.system_read().await.expect("a reader");
        let reserved = replicas::reserved(&mut tx).await.expect("reads");
        let replicas = u32::try_from(expected).expect("a few");
        assert_eq!(reserved, [replicas::Reserved { host, replicas, resources }]);
    }

    async fn a_hosts_epoch_only_grows(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let mut host = samples::host(tenant, 1);
        let given = host.clone();
        store.write(tenant, given, |tx, host| Box::pin(hosts::insert(tx, host))).await.expect("new");
        let next = || {
            store.write(tenant, host.id, |tx, id| Box::pin(hosts::next_epoch(tx, *id, at(9))))
        };
        assert_eq!(next().await.expect("writes"), 6);
        assert_eq!(next().await.expect("writes"), 7);
        let gone = samples::host_id(99);
        let error = store
            .write(tenant, gone, |tx, id| Box::pin(hosts::next_epoch(tx, *id, at(9))))
            .await
            .expect_err("there is no such host");
        assert!(matches!(error, StoreError::NotFound("host")), "{error:?}");
        host.epoch = 7;
        host.last_seen_at = at(9);
        let mut tx = store.read(tenant).await.expect("a reader");
        assert_eq!(hosts::by_name(&mut tx, &host.name).await.expect("reads"), Some(host.clone()));
        let listed = hosts::list(&mut tx, &Page::first(5)).await.expect("reads");
        assert_eq!(listed.items, [host]);
    }

    async fn an_instances_epoch_is_never_used_again(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let next = |uuid: &'static str| {
            store.write(tenant, uuid, |tx, uuid| Box::pin(instances::next_epoch(tx, uuid, at(1))))
        };
        let mut epochs = Vec::new();
        for uuid in ["a", "b", "a"] {
            epochs.push(next(uuid).await.expect("writes"));
        }
        let pruned = store.system_write((), |tx, ()| Box::pin(instances::prune(tx, at(2))));
        assert_eq!(pruned.await.expect("writes"), 2);
        epochs.push(next("a").await.expect("writes"));
        assert!(epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
        let mut tx = store.read(tenant).await.expect("a reader");
        let epoch = instances::epoch(&mut tx, "a").await.expect("reads");
        assert_eq!(epoch.as_ref(), epochs.last());
    }

    async fn a_source_is_collected_once_nothing_needs_it(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let revision = samples::revision(tenant, samples::agent_id(1), 1);
        let source = |digest: &str| Source {
            tenant,
            digest: digest.to_owned(),
            size_bytes: 9,
            created_at: at(1),
        };
        let needed = source(&revision.source_digest);
        let loose = source("sha256:loose");
        let given = (revision, needed.clone(), loose.clone());
        store
            .write(tenant, given, |tx, (revision, needed, loose)| Box::pin(async move {
                sources::put(tx, needed).await?;
                sources::put(tx, loose).await?;
                sources::put(tx, loose).await?;
                revisions::insert(tx, revision).await
            }))
            .await
            .expect("writes");
        let mut tx = store.system_read().await.expect("a reader");
        assert_eq!(sources::unreferenced(&mut tx, at(1), 9).await.expect("reads"), []);
        assert_eq!(sources::unreferenced(&mut tx, at(2), 9).await.expect("reads"), [loose]);
        drop(tx);
        let mut tx = store.read(tenant).await.expect("a reader");
        assert_eq!(sources::references(&mut tx, &needed.digest).await.expect("reads"), 1);
        assert!(sources::exists(&mut tx, &needed.digest).await.expect("reads"));
        assert_eq!(sources::size(&mut tx, "sha256:other").await.expect("reads"), None);
    }
}
