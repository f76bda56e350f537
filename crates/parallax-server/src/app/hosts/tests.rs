use parallax_core::replica::ReplicaPhase;
use parallax_proto::v1::desired_replica::Want as Wanted;

use super::*;
use crate::hosts::Joined;
use crate::testing::{HostDouble, World, facts, observed};

#[tokio::test]
async fn a_join_token_is_good_for_one_host() {
    let world = World::new().await;
    let token = world
        .app
        .mint_join_token(&world.admin, Receipt::none())
        .await;
    let token = token.expect("an administrator may");
    let joiner = world.app.auth.authenticate(token.reveal()).await;
    let joiner = joiner.expect("it is good");
    let first = world.app.join_host(&joiner, "one", facts()).await;
    first.expect("it joins");
    let second = world.app.join_host(&joiner, "two", facts()).await;
    assert_eq!(second.expect_err("it was used").code, Code::Forbidden);
    let again = world.app.auth.authenticate(token.reveal()).await;
    assert_eq!(again.expect_err("it was used").code, Code::Unauthenticated);
}

#[tokio::test]
async fn a_join_token_expires() {
    let world = World::new().await;
    let token = world
        .app
        .mint_join_token(&world.admin, Receipt::none())
        .await;
    let token = token.expect("an administrator may");
    world.app.clock.advance(JOIN_TOKEN_TTL);
    let late = world.app.auth.authenticate(token.reveal()).await;
    assert_eq!(
        late.expect_err("it is too old").code,
        Code::CredentialExpired
    );
}

#[tokio::test]
async fn a_hosts_own_credential_joins_nobody() {
    let world = World::new().await;
    let host = world.host("one").await;
    let refused = world.app.join_host(&host.principal, "two", facts()).await;
    assert_eq!(refused.expect_err("it has joined").code, Code::Forbidden);
}

#[tokio::test]
async fn every_session_of_a_host_has_a_later_epoch_and_an_older_one_cannot_return() {
    let world = World::new().await;
    let first = world.host("one").await;
    let older = Arc::clone(&first.connection);
    let second = first.again(v1::Observed::default()).await;
    assert!(second.connection.epoch > older.epoch);
    assert!(matches!(world.app.hosts.join(&older), Joined::Overtaken));
    assert!(!world.app.hosts.leave(&older), "its end ends nothing");
    let current = world.app.hosts.get(second.id).expect("it is connected");
    assert_eq!(current.epoch, second.connection.epoch);
}

/// A replica that `host` is to run.
async fn placed(world: &World, host: &mut HostDouble) -> (parallax_core::agent::Agent, String) {
    let agent = world.deploy(b"one", 1).await;
    world.reconcile(&agent).await;
    host.build("succeeded", "").await;
    world.reconcile(&agent).await;
    let mut wanted = host.wanted(Wanted::Run).await;
    (agent, wanted.pop().expect("it is placed"))
}

#[tokio::test]
async fn a_host_can_say_nothing_of_another_hosts_replicas() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let (agent, replica) = placed(&world, &mut host).await;
    host.say(std::slice::from_ref(&replica), "running").await;
    let mut other = world.host("two").await;
    let mut report = observed(&replica, "failed");
    report.memory_bytes = Some(1);
    other.report(vec![report]).await;
    let rows = world.replicas(&agent).await;
    assert_eq!(rows[0].observed.phase, ReplicaPhase::Running);
    assert_eq!(world.app.hosts.usage(rows[0].id), None);
    assert_eq!(
        other.desired().await.forget_replicas,
        [replica],
        "it may not keep it"
    );
    let complete = v1::Observed {
        complete: true,
        ..v1::Observed::default()
    };
    let told = world.app.observed(&other.connection, complete).await;
    told.expect("it makes sense");
    let rows = world.replicas(&agent).await;
    assert_eq!(rows[0].observed.phase, ReplicaPhase::Running);
}

#[tokio::test]
async fn a_host_can_say_nothing_of_another_hosts_builds() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let agent = world.deploy(b"one", 1).await;
    world.reconcile(&agent).await;
    let build = host.desired().await.builds.pop().expect("it is to build");
    let other = world.host("two").await;
    let state = v1::BuildState {
        build_id: build.build_id,
        phase: "succeeded".to_owned(),
        ..v1::BuildState::default()
    };
    let told = world.app.build_reported(&other.connection, state).await;
    told.expect("it is passed over");
    world.reconcile(&agent).await;
    assert_eq!(world.status(&agent).await, "Building");
}

#[tokio::test]
async fn a_report_that_says_nothing_new_writes_nothing() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let (agent, replica) = placed(&world, &mut host).await;
    let running = || {
        let mut report = observed(&replica, "running");
        report.memory_bytes = Some(5);
        vec![report]
    };
    host.report(running()).await;
    let before = world.replicas(&agent).await;
    world.app.clock.advance(Duration::from_secs(5));
    host.report(running()).await;
    assert_eq!(world.replicas(&agent).await, before);
    let usage = world
        .app
        .hosts
        .usage(before[0].id)
        .expect("it was measured");
    assert_eq!(
        (usage.memory_bytes, usage.at),
        (Some(5), world.app.clock.now())
    );
}

#[tokio::test]
async fn a_process_that_was_seen_to_end_ends_its_lease_but_not_its_successors() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let (agent, replica) = placed(&world, &mut host).await;
    let join = |uuid, at| {
        let mut entry = crate::dispatch::tests::Entry::new(uuid, 1);
        entry.hosted = Some((agent.id, replica.parse().expect("an id")));
        entry.connected_at = at;
        entry.join(&world.group("scorer"))
    };
    let first = join("a", world.app.clock.now());
    world.app.clock.advance(Duration::from_secs(5));
    let mut report = observed(&replica, "backoff");
    report.exit = Some(v1::ExitRecord {
        code: Some(1),
        ended_unix_us: world.app.clock.now().unix_micros(),
        ..v1::ExitRecord::default()
    });
    world.app.clock.advance(Duration::from_secs(5));
    let second = join("b", world.app.clock.now());
    host.report(vec![report]).await;
    assert!(first.closed.is_cancelled());
    assert!(!second.closed.is_cancelled());
    host.say(&[replica], "lost").await;
    assert!(second.closed.is_cancelled(), "nobody recorded this end");
}

#[tokio::test]
async fn a_process_whose_end_nobody_recorded_ends_its_lease_when_its_host_tells_of_it() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let (agent, replica) = placed(&world, &mut host).await;
    let join = |uuid| {
        let mut entry = crate::dispatch::tests::Entry::new(uuid, 1);
        entry.hosted = Some((agent.id, replica.parse().expect("an id")));
        entry.connected_at = world.app.clock.now();
        entry.join(&world.group("scorer"))
    };
    let report = |phase, incarnation| {
        let mut report = observed(&replica, phase);
        report.incarnation = incarnation;
        report.started_unix_us = world.app.clock.now().unix_micros();
        report
    };
    host.report(vec![report("running", 1)]).await;
    let first = join("a");
    world.app.clock.advance(Duration::from_secs(5));
    let mut lost = report("backoff", 1);
    lost.reason = "ShimLost".to_owned();
    host.report(vec![lost]).await;
    assert!(first.closed.is_cancelled(), "its host saw that it is gone");
    // The loss of the second is told only by the third's being there.
    host.report(vec![report("running", 2)]).await;
    let second = join("b");
    world.app.clock.advance(Duration::from_secs(5));
    let third_began = report("running", 3);
    world.app.clock.advance(Duration::from_secs(1));
    let third = join("c");
    host.report(vec![third_began]).await;
    assert!(
        second.closed.is_cancelled(),
        "another process has its place"
    );
    assert!(!third.closed.is_cancelled(), "it runs");
}

#[tokio::test]
async fn a_source_is_given_only_to_the_host_that_builds_it() {
    let world = World::new().await;
    let host = world.host("one").await;
    let agent = world.deploy(b"one", 1).await;
    world.reconcile(&agent).await;
    let digest = world.upload(b"one").await.digest;
    let opened = world
        .app
        .open_artifact(&host.principal, host.id, &digest)
        .await;
    opened.expect("it builds it");
    let other = world.host("two").await;
    let refused = world
        .app
        .open_artifact(&other.principal, other.id, &digest)
        .await;
    assert_eq!(refused.expect_err("it does not").code, Code::NotFound);
}

/// The build that a replica runs on, and those that the host is told to keep.
async fn builds_of(host: &mut HostDouble, replica: &str) -> (String, Vec<String>) {
    let desired = host.desired().await;
    let row = desired.replicas.iter().find(|r| r.replica_id == *replica);
    let build = row.expect("it is placed").build_id.clone();
    let kept = desired.kept_builds.expect("the host is told");
    (build, kept.build_ids)
}

#[tokio::test]
async fn a_host_is_told_to_keep_what_agents_should_run_and_no_earlier_revision() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let (agent, replica) = placed(&world, &mut host).await;
    let (first, kept) = builds_of(&mut host, &replica).await;
    assert_eq!(kept, [first.as_str()]);
    let agent_again = world.deploy(b"two", 1).await;
    assert_eq!(agent_again.id, agent.id);
    world.reconcile(&agent).await;
    host.build("succeeded", "").await;
    let kept = host.desired().await.kept_builds.expect("the host is told");
    assert_eq!(kept.build_ids.len(), 1);
    assert_ne!(kept.build_ids, [first]);
}

#[tokio::test]
async fn a_build_that_its_host_has_given_up_is_made_anew_when_it_is_needed() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let (agent, waiting) = placed(&world, &mut host).await;
    let (build, _) = builds_of(&mut host, &waiting).await;
    let ids = build_ids(std::slice::from_ref(&build)).expect("it is an id");
    let told = world.app.builds_removed(&host.connection, ids).await;
    told.expect("the store works");
    world.reconcile(&agent).await;
    assert_eq!(host.wanted(Wanted::Stop).await, [waiting]);
    assert_eq!(host.build("succeeded", "").await, 1, "it is built again");
    world.reconcile(&agent).await;
    let fresh = host.wanted(Wanted::Run).await;
    assert_ne!(builds_of(&mut host, &fresh[0]).await.0, build);
}

#[tokio::test]
async fn a_host_that_lost_its_folder_builds_again_and_what_runs_is_left_alone() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let (agent, replica) = placed(&world, &mut host).await;
    host.say(std::slice::from_ref(&replica), "running").await;
    host.kept.clear();
    let mut host = host.again(v1::Observed::default()).await;
    world.reconcile(&agent).await;
    assert_eq!(host.wanted(Wanted::Run).await, [replica]);
    let scaled = world.deploy(b"one", 2).await;
    world.reconcile(&scaled).await;
    assert_eq!(host.desired().await.builds.len(), 1, "it is built again");
}

#[tokio::test]
async fn a_build_that_failed_is_not_tried_again_because_its_log_is_gone() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let agent = world.deploy(b"one", 1).await;
    world.reconcile(&agent).await;
    host.build("failed", "BuildFailed").await;
    host.kept.clear();
    let mut host = host.again(v1::Observed::default()).await;
    world.reconcile(&agent).await;
    assert!(host.desired().await.builds.is_empty());
    assert_eq!(world.status(&agent).await, "Failed BuildFailed");
}

#[tokio::test]
async fn how_a_process_ended_is_told_while_the_next_one_comes_up_and_afterwards() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let (agent, replica) = placed(&world, &mut host).await;
    let said = async |phase: &str, incarnation, exit: Option<v1::ExitRecord>| {
        let mut report = observed(&replica, phase);
        (report.incarnation, report.exit) = (incarnation, exit);
        host.report(vec![report]).await;
        world.reconcile(&agent).await;
        let status = world.agent(&agent).await.expect("it is there").status;
        (status.phase.to_string(), status.message)
    };
    said("running", 1, None).await;
    let exit = v1::ExitRecord {
        code: Some(3),
        ended_unix_us: world.app.clock.now().unix_micros(),
        last_log_line: "cannot find module".to_owned(),
        ..v1::ExitRecord::default()
    };
    said("backoff", 1, Some(exit)).await;
    let told = "restarted after: exit code 3; last log line: cannot find module";
    let starting = |message: &str| ("Starting".to_owned(), message.to_owned());
    assert_eq!(said("starting", 2, None).await, starting(told));
    let expected = format!("the process runs, and its agent has not registered; {told}");
    assert_eq!(said("running", 2, None).await, starting(&expected));
    let row = world.replicas(&agent).await.pop().expect("it is there");
    let code = row.observed.exit.expect("it is kept").code;
    assert_eq!(code, Some(3));
    said("running", 3, None).await;
    let mut tx = world.app.store.read(agent.tenant).await.expect("it works");
    let listed = events::list_after(&mut tx, 0, &events::Filter::All, 100).await;
    let ends: Vec<_> = listed.expect("it works").events;
    let ends: Vec<&str> = ends
        .iter()
        .filter(|event| event.kind == "replica_exited")
        .map(|event| event.message.split_once("ended: ").expect("it says how").1)
        .collect();
    let first = "exit code 3; last log line: cannot find module";
    assert_eq!(ends, [first, "nobody reported how"]);
}

#[tokio::test]
async fn what_was_measured_is_shown_only_of_a_process_that_is_there() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let (_, replica) = placed(&world, &mut host).await;
    let measured = |cpu_ns| {
        let mut report = observed(&replica, "running");
        (report.cpu_ns, report.memory_bytes) = (cpu_ns, Some(5));
        vec![report]
    };
    let shown = async || {
        let detail = world.app.agent(&world.admin, "scorer").await;
        let usage = detail.expect("it is there").replicas[0].usage;
        usage.map(|usage| (usage.cpu_millis, usage.memory_bytes))
    };
    host.report(measured(Some(0))).await;
    world.app.clock.advance(Duration::from_secs(1));
    host.report(measured(Some(500_000_000))).await;
    assert_eq!(shown().await, Some((Some(500), Some(5))));
    world.app.clock.advance(Duration::from_secs(1));
    host.report(measured(None)).await;
    assert_eq!(shown().await, Some((None, Some(5))), "CPU was not measured");
    host.say(std::slice::from_ref(&replica), "backoff").await;
    assert_eq!(shown().await, None, "nothing runs");
    host.report(measured(Some(0))).await;
    world.app.hosts.leave(&host.connection);
    assert_eq!(shown().await, None, "its host is away");
}

#[tokio::test]
async fn a_forecast_names_the_host_that_reported_a_build_and_forgets_what_it_has_given_up() {
    use crate::app::forecast::BuildForecast;
    let world = World::new().await;
    let mut host = world.host("one").await;
    let spec = parallax_core::manifest::AgentSpec::named(crate::testing::name("scorer"));
    let digest = world.upload(b"one").await.digest;
    let forecast = async || {
        let wanted = parallax_core::deploy::Wanted {
            spec: &spec,
            source_digest: Some(&digest),
            suspended: false,
        };
        let forecast = world.app.forecast(&world.admin, &wanted).await;
        forecast.expect("the spec is fine").build
    };
    let agent = world.deploy(b"one", 1).await;
    world.reconcile(&agent).await;
    assert_eq!(
        forecast().await,
        BuildForecast::Needed,
        "it is not made yet"
    );
    host.build("succeeded", "").await;
    let by = BuildForecast::Reported(crate::testing::name("one"));
    assert_eq!(forecast().await, by);
    let ids = build_ids(&[host.kept[0].build_id.clone()]).expect("it is an id");
    let told = world.app.builds_removed(&host.connection, ids).await;
    told.expect("the store works");
    assert_eq!(forecast().await, BuildForecast::Needed, "it is gone");
}
