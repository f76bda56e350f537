//! Durable tasks on a real store, with agents whose every frame is seen.

use std::time::Duration;

use futures::FutureExt;
use parallax_core::error::Code;
use parallax_core::instance::Capability;
use parallax_core::task::{Outcome, Problem};
use parallax_proto::v1;
use parallax_proto::v1::inventory_item::State;

use super::*;
use crate::dispatch::tests as agents;
use crate::dispatch::tests::{Agent, Entry, capability, listed, reference};
use crate::testing::World;

fn score(idempotent: bool) -> Vec<Capability> {
    vec![capability("score", 0, idempotent)]
}

async fn connected(world: &World, credit: u32, idempotent: bool) -> Agent {
    Entry::new("a", credit)
        .offering(score(idempotent))
        .join(&world.group("scorer"))
}

fn fail(agent: &Agent, task: &v1::Task) {
    let outcome = Outcome::Problem(Problem {
        code: Code::AgentFailed,
        message: "it failed".to_owned(),
        retryable: true,
        agent_code: None,
        retry_after_ms: 0,
    });
    let id = agents::id_of(task);
    agent
        .group
        .ended(agent.slot, reference(task), id, outcome, 1);
}

#[tokio::test]
async fn a_task_is_committed_as_sent_and_acknowledged_as_committed() {
    let mut world = World::new().await;
    let mut agent = connected(&world, 1, false).await;
    let submitted = world.submit(None).await;
    assert_eq!(submitted.row.state, TaskState::Dispatched);
    let task = agent.next_task();
    assert_eq!(
        world.task(&submitted).await.instance_uuid.as_deref(),
        Some("a")
    );
    agent.accept(&task);
    let shown = world.app.get_task(&world.admin, submitted.row.id).await;
    assert_eq!(shown.expect("it is there").row.state, TaskState::Running);
    agent.finish(&task, 1);
    assert!(agent.next().is_none(), "nothing is committed yet");
    assert_eq!(world.commit().await, 1);
    assert!(matches!(agent.next(), Some(agents::Frame::ResultAck(_))));
    assert_eq!(world.state(&submitted).await, TaskState::Succeeded);
}

#[tokio::test]
async fn a_result_outlives_a_store_that_fails_and_a_server_that_ends() {
    let mut world = World::new().await;
    let mut agent = connected(&world, 1, false).await;
    let submitted = world.submit(None).await;
    let task = agent.next_task();
    agent.accept(&task);
    world.app.store.close().await;
    agent.finish(&task, 1);
    let news = Arc::new(world.news.recv().await.expect("the result"));
    world
        .app
        .durable_event(&news)
        .await
        .expect_err("the store is gone");
    assert!(agent.next().is_none(), "it must keep the result");

    let mut world = world.restart().await;
    assert_eq!(world.state(&submitted).await, TaskState::Dispatched);
    world.dispatch().await;
    let mut back = Entry::new("a", 1)
        .again(2, vec![listed(&task, State::Finished)])
        .join(&world.group("scorer"));
    assert!(matches!(
        back.verdicts()[..],
        [v1::verdict::Verdict::SendResult(_)]
    ));
    assert_eq!(back.tasks(), [], "it is not run twice");
    back.finish(&task, 0);
    world.commit().await;
    assert_eq!(world.state(&submitted).await, TaskState::Succeeded);
    assert!(matches!(back.next(), Some(agents::Frame::ResultAck(_))));
}

#[tokio::test]
async fn a_submission_that_fails_takes_no_credit() {
    let mut world = World::new().await;
    let mut agent = connected(&world, 1, false).await;
    world.app.store.close().await;
    let failed = world.app.submit_task(&world.admin, World::submission(None));
    failed.await.expect_err("nothing can be committed");
    assert_eq!(agent.tasks(), []);
    let world = {
        world.news.close();
        world.restart().await
    };
    assert!(world.group("scorer").views(Instant::now()).is_empty());
    let views = agent.group.views(Instant::now());
    assert_eq!(views[0].credit, 1);
}

#[tokio::test]
async fn a_dispatch_that_fails_takes_no_credit_and_loses_no_task() {
    let world = World::new().await;
    let submitted = {
        let idle = connected(&world, 0, false).await;
        let submitted = world.submit(None).await;
        idle.group.grant(idle.slot, 1);
        let mut tx = world.app.store.system_read().await.expect("it works");
        let now = world.app.clock.now();
        let rows = tasks::due_queued(&mut tx, now, None, 9)
            .await
            .expect("rows");
        drop(tx);
        world.app.store.close().await;
        world.app.dispatch_queued(rows).await.expect_err("it fails");
        assert_eq!(idle.group.views(Instant::now())[0].credit, 1);
        submitted
    };
    let world = world.restart().await;
    let mut agent = connected(&world, 1, false).await;
    world.dispatch().await;
    assert_eq!(agent.tasks(), [submitted.row.id]);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_no_task_half_sent() {
    let world = World::new().await;
    let mut agent = connected(&world, 1, false).await;
    let mut call = Box::pin(
        world
            .app
            .submit_task(&world.admin, World::submission(Some("k"))),
    );
    // Far enough that the work has begun; the caller hears nothing of it.
    while agent.group.views(Instant::now())[0].credit == 1 {
        assert!(call.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    drop(call);
    let sent = tokio::time::timeout(Duration::from_secs(10), agent.frames.recv()).await;
    assert!(
        sent.is_ok_and(|frame| frame.is_some()),
        "it is sent all the same"
    );
    let again = world.submit(Some("k")).await;
    assert_eq!(again.row.attempt, 1);
}

#[tokio::test]
async fn the_same_key_is_the_same_task() {
    let world = World::new().await;
    let mut agent = connected(&world, 5, false).await;
    let first = world.submit(Some("order-7")).await;
    let again = world.submit(Some("order-7")).await;
    assert_eq!(first.row.id, again.row.id);
    assert_eq!(agent.tasks(), [first.row.id]);
    assert_eq!(agent.group.views(Instant::now())[0].credit, 4);
    let mut other = World::submission(Some("order-7"));
    other.request.capability = "scan".to_owned();
    let refused = world.app.submit_task(&world.admin, other).await;
    assert_eq!(
        refused.expect_err("it differs").code,
        Code::IdempotencyMismatch
    );
}

#[tokio::test]
async fn a_failure_is_tried_again_after_a_while_as_the_next_attempt() {
    let mut world = World::new().await;
    let mut agent = connected(&world, 5, true).await;
    let submitted = world.submit(None).await;
    for attempt in 1..=3 {
        let task = agent.next_task();
        assert_eq!(reference(&task).attempt, attempt);
        fail(&agent, &task);
        world.commit().await;
        assert!(matches!(agent.next(), Some(agents::Frame::ResultAck(_))));
        world.dispatch().await;
        assert_eq!(agent.tasks(), [], "not before the back-off is over");
        world.app.clock.advance(Duration::from_secs(5));
        world.dispatch().await;
    }
    assert_eq!(world.state(&submitted).await, TaskState::Failed);
    assert_eq!(agent.tasks(), []);
}

#[tokio::test]
async fn what_is_not_idempotent_is_not_tried_again() {
    let mut world = World::new().await;
    let mut agent = connected(&world, 5, false).await;
    let submitted = world.submit(None).await;
    let task = agent.next_task();
    fail(&agent, &task);
    world.commit().await;
    assert_eq!(world.state(&submitted).await, TaskState::Failed);
}

#[tokio::test]
async fn a_deadline_that_passes_in_the_queue_ends_the_task() {
    let world = World::new().await;
    let mut agent = connected(&world, 0, false).await;
    let mut wanted = World::submission(None);
    wanted.request.deadline = Some(Duration::from_secs(30));
    let submitted = world.app.submit_task(&world.admin, wanted).await;
    let submitted = submitted.expect("it is taken on");
    world.app.clock.advance(Duration::from_secs(30));
    agent.group.grant(agent.slot, 1);
    world.dispatch().await;
    assert_eq!(world.state(&submitted).await, TaskState::Expired);
    assert_eq!(agent.tasks(), []);
}

#[tokio::test]
async fn a_restored_task_whose_instance_stays_away_goes_to_another_if_it_may() {
    for (idempotent, expected) in [(true, TaskState::Dispatched), (false, TaskState::Lost)] {
        let world = World::new().await;
        let _gone = connected(&world, 1, idempotent).await;
        let submitted = world.submit(None).await;
        let mut world = world.restart().await;
        let group = world.group("scorer");
        let mut other = Entry::new("b", 5).offering(score(idempotent)).join(&group);
        let restored = group.views(Instant::now());
        assert_eq!(restored.len(), 1, "who has not come back is not shown");
        for slot in group.sweep(Instant::now() + Duration::from_secs(20), Duration::ZERO) {
            if slot != other.slot {
                world.app.instance_lost(&group, slot, None);
            }
        }
        world.commit().await;
        world.dispatch().await;
        assert_eq!(world.state(&submitted).await, expected);
        let sent = if idempotent {
            vec![submitted.row.id]
        } else {
            vec![]
        };
        assert_eq!(other.tasks(), sent);
        assert_eq!(
            world.task(&submitted).await.attempt,
            1 + u32::from(idempotent)
        );
    }
}

#[tokio::test]
async fn a_restored_task_that_its_instance_never_received_is_sent_again() {
    let world = World::new().await;
    // Committed as sent, and killed before the frame had left.
    let _deaf = connected(&world, 1, false).await;
    let submitted = world.submit(None).await;
    let mut world = world.restart().await;
    let mut back = Entry::new("a", 1)
        .again(2, Vec::new())
        .offering(score(false))
        .join(&world.group("scorer"));
    world.commit().await;
    world.dispatch().await;
    let task = back.next_task();
    assert_eq!(reference(&task).attempt, 2);
    back.finish(&task, 1);
    world.commit().await;
    assert_eq!(world.state(&submitted).await, TaskState::Succeeded);
}

#[tokio::test]
async fn a_restored_task_that_its_instance_lists_counts_as_accepted() {
    let mut world = World::new().await;
    let mut agent = connected(&world, 1, false).await;
    let submitted = world.submit(None).await;
    let task = agent.next_task();
    world.news.close();
    let world = world.restart().await;
    let _back = Entry::new("a", 0)
        .again(2, vec![listed(&task, State::Running)])
        .join(&world.group("scorer"));
    let shown = world.app.get_task(&world.admin, submitted.row.id).await;
    assert_eq!(shown.expect("it is there").row.state, TaskState::Running);
}

#[tokio::test]
async fn room_on_an_instance_wakes_the_queue_only_when_somebody_waits() {
    let mut world = World::new().await;
    let mut agent = connected(&world, 1, false).await;
    let _first = world.submit(None).await;
    let task = agent.next_task();
    let woken = || world.app.queue.notified().now_or_never().is_some();
    world.app.room_made(&agent.group);
    assert!(!woken());
    let second = world.submit(None).await;
    assert!(woken(), "it is queued");
    agent.finish(&task, 1);
    world.app.room_made(&agent.group);
    let woken = || world.app.queue.notified().now_or_never().is_some();
    assert!(woken());
    world.dispatch().await;
    assert!(agent.tasks().contains(&second.row.id));
    world.commit().await;
}

#[tokio::test]
async fn the_commit_job_ends_with_the_server_and_leaves_nothing_behind() {
    let world = World::new().await;
    let mut agent = connected(&world, 1, false).await;
    let submitted = world.submit(None).await;
    let task = agent.next_task();
    agent.finish(&task, 1);
    world.app.shutdown.cancel();
    let job = crate::jobs::durable::commit(Arc::clone(&world.app), world.news);
    let ended = tokio::time::timeout(Duration::from_secs(10), job).await;
    ended.expect("the job ends");
    world.app.tasks.close();
    world.app.tasks.wait().await;
    let mut tx = world
        .app
        .store
        .read(world.admin.tenant)
        .await
        .expect("it works");
    let row = tasks::get(&mut tx, submitted.row.id)
        .await
        .expect("it works");
    assert_eq!(row.expect("it is there").state, TaskState::Succeeded);
}
