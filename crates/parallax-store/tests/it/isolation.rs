//! One tenant cannot see or touch another's anything.

use parallax_core::replica::{Observation, Want};
use parallax_core::status::Status;
use parallax_store::sources::Source;
use parallax_store::{
    Page, StoreError, Tx, agents, builds, hosts, idempotency, instances, keys, replicas, revisions,
    sources, tasks, tenants,
};

use crate::database::{add_tenant, on_both};
use crate::samples::{self, at};

/// Writes one of each for the tenant.
async fn furnish(tx: &mut Tx) -> Result<(), StoreError> {
    let tenant = tx.tenant()?;
    let agent = samples::agent(tenant, 1);
    let revision = samples::revision(tenant, agent.id, 1);
    agents::insert(tx, &agent).await?;
    revisions::insert(tx, &revision).await?;
    builds::insert(tx, &samples::build(&revision, 1)).await?;
    replicas::insert(tx, &samples::replica(tenant, agent.id, 1)).await?;
    hosts::insert(tx, &samples::host(tenant, 1)).await?;
    keys::insert(tx, &samples::key(tenant, 1)).await?;
    tasks::insert_or_get(tx, &samples::task(tenant, 1)).await?;
    instances::next_epoch(tx, "i-1", at(1)).await?;
    let (digest, created_at) = (revision.source_digest, at(1));
    sources::put(
        tx,
        &Source {
            tenant,
            digest,
            size_bytes: 1,
            created_at,
        },
    )
    .await?;
    idempotency::put(tx, &answer(), at(1)).await
}

fn answer() -> idempotency::Answer {
    idempotency::Answer {
        key: "k".to_owned(),
        route: "r".to_owned(),
        request_hash: vec![1],
        status: 200,
        content_type: String::new(),
        body: vec![2],
        expires_at: at(99),
    }
}

/// How many of what [`furnish`] wrote a transaction sees by its ids, names and keys.
async fn visible(tx: &mut Tx) -> Result<Vec<bool>, StoreError> {
    let owner = samples::tenant(1).id;
    let agent = samples::agent(owner, 1);
    let revision = samples::revision(owner, agent.id, 1);
    let build = samples::build(&revision, 1);
    let replica = samples::replica(owner, agent.id, 1);
    let host = samples::host(owner, 1);
    let page = Page::first(9);
    Ok(vec![
        agents::get(tx, agent.id).await?.is_some(),
        agents::by_name(tx, &agent.name).await?.is_some(),
        !agents::list(tx, None, &page).await?.items.is_empty(),
        !agents::list(tx, Some(agent.status.phase), &page)
            .await?
            .items
            .is_empty(),
        !agents::ids(tx).await?.is_empty(),
        !hosts::of_tenant(tx).await?.is_empty(),
        !agents::count(tx).await?.is_empty(),
        revisions::get(tx, revision.id).await?.is_some(),
        revisions::by_number(tx, agent.id, 1).await?.is_some(),
        revisions::latest(tx, agent.id).await?.is_some(),
        builds::get(tx, build.id).await?.is_some(),
        builds::by_key(tx, build.host, &build.key).await?.is_some(),
        !builds::list_for_key(tx, &build.key).await?.is_empty(),
        !builds::list_for_agent(tx, agent.id, 9).await?.is_empty(),
        replicas::get(tx, replica.id).await?.is_some(),
        !replicas::list_for_agent(tx, agent.id).await?.is_empty(),
        hosts::get(tx, host.id).await?.is_some(),
        hosts::by_name(tx, &host.name).await?.is_some(),
        !hosts::list(tx, &page).await?.items.is_empty(),
        !keys::list(tx, &page).await?.items.is_empty(),
        tasks::get(tx, samples::task(owner, 1).id).await?.is_some(),
        !tasks::list(tx, &tasks::Filter::default(), &page)
            .await?
            .items
            .is_empty(),
        instances::epoch(tx, "i-1").await?.is_some(),
        sources::exists(tx, &revision.source_digest).await?,
        sources::references(tx, &revision.source_digest).await? > 0,
        idempotency::get(tx, "k", "r", at(2)).await?.is_some(),
    ])
}

/// Tries to change what the tenant does not own, by id.
async fn meddle(tx: &mut Tx) -> Result<(), StoreError> {
    let owner = samples::tenant(1).id;
    let agent = samples::agent(owner, 1);
    let revision = samples::revision(owner, agent.id, 1);
    let replica = samples::replica(owner, agent.id, 1);
    let (host, key) = (samples::host_id(1), samples::key(owner, 1));
    let not_found = [
        agents::set_status(tx, agent.id, &Status::pending(at(1)), at(9)).await,
        replicas::set_want(tx, replica.id, Want::Stop, at(9)).await,
        replicas::set_observed(tx, replica.id, &Observation::nothing_yet(), at(9)).await,
        hosts::next_epoch(tx, host, at(9)).await.map(drop),
        hosts::set_facts(tx, host, &samples::host(owner, 1).facts, at(9)).await,
        keys::revoke(tx, key.id, at(9)).await,
    ];
    for result in not_found {
        assert!(matches!(result, Err(StoreError::NotFound(_))), "{result:?}");
    }
    assert!(!agents::delete(tx, agent.id).await?);
    assert!(!builds::delete(tx, samples::build(&revision, 1).id).await?);
    assert!(!replicas::delete(tx, replica.id).await?);
    assert!(!hosts::delete(tx, host).await?);
    assert!(!sources::delete(tx, &revision.source_digest).await?);
    assert_eq!(revisions::delete_for_agent(tx, agent.id).await?, 0);
    assert_eq!(builds::delete_for_agent(tx, agent.id).await?, 0);
    let foreign = [
        agents::insert(tx, &agent).await,
        agents::update(tx, &agent, 1).await.map(drop),
        revisions::insert(tx, &revision).await.map(drop),
        builds::insert(tx, &samples::build(&revision, 2)).await,
        builds::update_progress(tx, &samples::build(&revision, 1)).await,
        replicas::insert(tx, &replica).await,
        hosts::insert(tx, &samples::host(owner, 2)).await,
        hosts::touch_seen(tx, owner, host, at(9)).await,
        keys::insert(tx, &samples::key(owner, 2)).await,
        keys::touch_last_used(tx, owner, key.id, at(9)).await,
        keys::consume_single_use(tx, owner, key.id, at(9))
            .await
            .map(drop),
        tasks::insert_or_get(tx, &samples::task(owner, 2))
            .await
            .map(drop),
        tasks::update(
            tx,
            &samples::task(owner, 1),
            (samples::task(owner, 1).state, 0),
        )
        .await
        .map(drop),
        tenants::get(tx, owner).await.map(drop),
    ];
    for result in foreign {
        assert!(
            matches!(result, Err(StoreError::ForeignTenant(_))),
            "{result:?}"
        );
    }
    Ok(())
}

on_both! {
    async fn a_tenant_sees_and_changes_nothing_of_anothers(database: Database) {
        let (store, owner) = database.open_with_tenant().await;
        let other = samples::tenant(2);
        add_tenant(&store, other.clone()).await;
        store.write(owner, (), |tx, ()| Box::pin(furnish(tx))).await.expect("writes");

        let mut tx = store.read(owner).await.expect("a reader");
        let own = visible(&mut tx).await.expect("reads");
        assert!(own.iter().all(|seen| *seen), "{own:?}");
        drop(tx);

        let mut tx = store.read(other.id).await.expect("a reader");
        let others = visible(&mut tx).await.expect("reads");
        assert!(others.iter().all(|seen| !seen), "{others:?}");
        drop(tx);

        store.write(other.id, (), |tx, ()| Box::pin(meddle(tx))).await.expect("no write failed");
        let mut tx = store.read(owner).await.expect("a reader");
        assert_eq!(visible(&mut tx).await.expect("reads"), own);
        let agent = agents::get(&mut tx, samples::agent_id(1)).await.expect("reads");
        assert_eq!(agent, Some(samples::agent(owner, 1)));
    }

    async fn the_same_names_and_ids_serve_two_tenants(database: Database) {
        let (store, owner) = database.open_with_tenant().await;
        let other = samples::tenant(2);
        add_tenant(&store, other.clone()).await;
        for tenant in [owner, other.id] {
            store
                .write(tenant, tenant, |tx, tenant| Box::pin(async move {
                    agents::insert(tx, &samples::agent(*tenant, 1)).await?;
                    tasks::insert_or_get(tx, &samples::task(*tenant, 1)).await
                }))
                .await
                .expect("another tenant's rows are no obstacle");
        }
    }
}
