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

/// Makes the blob look as if it had been written so long ago.
fn date_back(world: &World, source: &StoredSource, by: Duration) {
    let hex = source.digest.trim_start_matches("sha256:");
    let path = world.app.data_dir.join("blobs");
    let path = path.join(world.admin.tenant.to_string()).join("sha256");
    let path = path.join(&hex[..2]).join(&hex[2..4]).join(hex);
    let file = std::fs::File::options().write(true).open(path);
    let now = world.app.clock.now().unix_micros();
    let now = SystemTime::UNIX_EPOCH + Duration::from_micros(now.try_into().expect("after 1970"));
    let dated = file.expect("it is there").set_modified(now - by);
    dated.expect("the disk works");
}

#[tokio::test]
async fn a_blob_that_no_row_speaks_of_goes_and_neither_a_young_one_nor_one_in_use_does() {
    let world = World::new().await;
    let [orphan, young] = [world.upload(b"orphan").await, world.upload(b"young").await];
    world.deploy(b"used", 1).await;
    let used = world.upload(b"used").await;
    for (source, age) in [(&orphan, 2), (&young, 0), (&used, 2)] {
        date_back(&world, source, ORPHANED_FOR * age);
    }
    round(&world.app).await.expect("the store works");
    assert_eq!(is_here(&world, &orphan).await, (false, false));
    assert_eq!(is_here(&world, &young).await, (false, true));
    assert_eq!(is_here(&world, &used).await, (true, true));
    // An upload of the same again is young, and may be brought into use.
    let again = world.upload(b"orphan").await;
    round(&world.app).await.expect("the store works");
    let spec = parallax_core::manifest::AgentSpec::named(crate::testing::name("scorer"));
    world.deploy_as(spec, Some(again.clone()), false).await;
    assert_eq!(is_here(&world, &again).await, (true, true));
}
