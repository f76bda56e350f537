use std::time::Duration;

use parallax_store::keys;

use super::*;
use crate::app::Receipt;
use crate::app::deploy::{Deployment, StoredSource};
use crate::testing::World;

async fn later(world: &World, by: Duration) {
    world.app.clock.advance(by);
    round(&world.app).await.expect("the store works");
}

fn history(world: &World) -> Duration {
    world.app.limits.history + Duration::from_secs(1)
}

async fn is_here(world: &World, source: &StoredSource) -> (bool, bool) {
    let digest = source.digest.parse().expect("a digest");
    let blob = world.app.blobs.size(world.admin.tenant, &digest).await;
    let mut tx = world
        .app
        .store
        .read(world.admin.tenant)
        .await
        .expect("it works");
    let row = sources::exists(&mut tx, &source.digest).await;
    (
        row.expect("the store works"),
        blob.expect("the disk works").is_some(),
    )
}

#[tokio::test]
async fn a_source_stays_while_a_revision_needs_it_and_then_for_as_long_as_history() {
    let world = World::new().await;
    let agent = world.deploy(b"one", 1).await;
    let source = world.upload(b"one").await;
    later(&world, history(&world)).await;
    assert_eq!(is_here(&world, &source).await, (true, true));
    let deleted = world
        .app
        .delete_agent(&world.admin, "scorer", Duration::ZERO, Receipt::none());
    deleted.await.expect("it is being deleted");
    world.reconcile(&agent).await;
    assert_eq!(world.agent(&agent).await, None);
    later(&world, Duration::from_secs(1)).await;
    assert_eq!(is_here(&world, &source).await, (false, false));
}

#[tokio::test]
async fn a_source_that_was_uploaded_again_is_young_again() {
    let world = World::new().await;
    let agent = world.deploy(b"one", 1).await;
    let source = world.upload(b"one").await;
    world.app.clock.advance(history(&world));
    world.deploy(b"one", 1).await;
    let deleted = world
        .app
        .delete_agent(&world.admin, "scorer", Duration::ZERO, Receipt::none());
    deleted.await.expect("it is being deleted");
    world.reconcile(&agent).await;
    later(&world, Duration::from_secs(1)).await;
    assert_eq!(is_here(&world, &source).await, (true, true));
}

#[tokio::test]
async fn a_deployment_of_a_source_that_was_collected_is_refused() {
    let world = World::new().await;
    let source = world.upload(b"one").await;
    let digest = source.digest.parse().expect("a digest");
    let deleted = world.app.blobs.delete(world.admin.tenant, &digest).await;
    assert!(deleted.expect("the disk works"));
    let spec = parallax_core::manifest::AgentSpec::named(crate::testing::name("scorer"));
    let wanted = Deployment {
        spec,
        source: Some(source),
        suspended: false,
    };
    let refused = world.app.deploy(&world.admin, wanted, Receipt::none());
    let refused = refused.await.expect_err("its blob is gone");
    assert_eq!(refused.code, parallax_core::error::Code::NotFound);
}

#[tokio::test]
async fn old_tasks_epochs_and_events_go_and_keys_stay() {
    let world = World::new().await;
    let mut agent = crate::dispatch::tests::Agent::join(&world.group("scorer"), "a", 1);
    let task = world.submit(None).await;
    let sent = agent.next_task();
    let tenant = world.admin.tenant;
    let now = world.app.clock.now();
    let epoch = world.app.store.write(tenant, (), move |tx, ()| {
        Box::pin(async move { instances::next_epoch(tx, "a", now).await })
    });
    epoch.await.expect("the store works");
    later(&world, history(&world)).await;
    assert_eq!(world.task(&task).await.id, task.row.id, "it has not ended");
    agent.finish(&sent, 1);
    let mut world = world;
    world.commit().await;
    later(&world, history(&world)).await;
    let mut tx = world.app.store.read(tenant).await.expect("it works");
    assert_eq!(
        tasks::get(&mut tx, task.row.id).await.expect("it works"),
        None
    );
    assert_eq!(
        instances::epoch(&mut tx, "a").await.expect("it works"),
        None
    );
    let left = events::list_after(&mut tx, 0, &events::Filter::All, 100).await;
    let left = left.expect("it works");
    assert_eq!(left.events, []);
    assert!(left.skipped_to.is_some(), "a reader is told of the hole");
    let keys = keys::list(&mut tx, &Page::first(10))
        .await
        .expect("it works");
    assert_eq!(keys.items.len(), 1);
}
