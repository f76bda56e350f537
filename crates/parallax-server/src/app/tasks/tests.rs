//! Cancels and watches of durable tasks, on a real store.

use std::sync::Arc;
use std::time::Duration;

use parallax_core::task::{CancelAck, Partial, Ppm, Progress};
use parallax_proto::v1;

use super::*;
use crate::dispatch::Update;
use crate::dispatch::tests::{Agent, Frame, id_of};
use crate::testing::World;

fn connected(world: &World, credit: u32) -> Agent {
    Agent::join(&world.group("scorer"), "a", credit)
}

async fn cancel(world: &World, task: &TaskRecord) -> Result<TaskRecord> {
    let cancelled = world.app.cancel_task(&world.admin, task.row.id, "no need");
    cancelled.await
}

#[tokio::test]
async fn a_task_that_waits_is_cancelled_at_once_and_never_sent() {
    let world = World::new().await;
    let mut agent = connected(&world, 0);
    let task = world.submit(None).await;
    let cancelled = cancel(&world, &task).await.expect("it is cancelled");
    assert_eq!(
        (cancelled.row.state, cancelled.row.cancel),
        (TaskState::Cancelled, CancelState::Stopped)
    );
    agent.group.grant(agent.slot, 1);
    world.dispatch().await;
    assert_eq!(agent.tasks(), []);
    let again = cancel(&world, &task).await.expect_err("it has ended");
    assert_eq!(again.code, Code::Conflict);
}

#[tokio::test]
async fn a_running_task_is_cancelled_once_its_agent_says_so() {
    let mut world = World::new().await;
    let mut agent = connected(&world, 1);
    let task = world.submit(None).await;
    let sent = agent.next_task();
    let asked = cancel(&world, &task).await.expect("it is asked");
    assert_eq!(asked.row.cancel, CancelState::Requested);
    assert!(matches!(agent.next(), Some(Frame::Cancel(_))));
    let group = &agent.group;
    group.cancel_acked(agent.slot, id_of(&sent), 1, CancelAck::Stopped);
    world.commit().await;
    let row = world.task(&task).await;
    assert_eq!(
        (row.state, row.cancel),
        (TaskState::Cancelled, CancelState::Stopped)
    );
}

#[tokio::test]
async fn a_cancel_that_nobody_answers_is_written_down_as_unresolved() {
    let mut world = World::new().await;
    let mut agent = connected(&world, 1);
    let task = world.submit(None).await;
    let _sent = agent.next_task();
    cancel(&world, &task).await.expect("it is asked");
    let late = Instant::now() + Duration::from_secs(11);
    agent.group.sweep(late, Duration::from_secs(10));
    world.commit().await;
    let row = world.task(&task).await;
    assert_eq!(
        (row.state, row.cancel),
        (TaskState::Dispatched, CancelState::Unresolved)
    );
}

#[tokio::test]
async fn a_cancel_outlives_the_server() {
    let world = World::new().await;
    let mut agent = connected(&world, 1);
    let task = world.submit(None).await;
    let sent = agent.next_task();
    cancel(&world, &task).await.expect("it is asked");
    let mut world = world.restart().await;
    let group = world.group("scorer");
    let listed = crate::dispatch::tests::listed(&sent, v1::inventory_item::State::Running);
    let back = crate::dispatch::tests::Entry::new("a", 1)
        .again(2, vec![listed])
        .join(&group);
    assert!(matches!(
        back.verdicts()[..],
        [v1::verdict::Verdict::Cancel(_)]
    ));
    let late = Instant::now() + Duration::from_secs(60);
    group.sweep(late, Duration::from_secs(10));
    world.commit().await;
    assert_eq!(world.task(&task).await.cancel, CancelState::Unresolved);
}

#[tokio::test]
async fn an_expired_task_still_tells_what_became_of_its_work() {
    let mut world = World::new().await;
    let mut agent = connected(&world, 1);
    let mut wanted = World::submission(None);
    wanted.request.deadline = Some(Duration::from_secs(5));
    let submitted = world.app.submit_task(&world.admin, wanted).await;
    let task = submitted.expect("it is taken on");
    let sent = agent.next_task();
    let late = Instant::now() + Duration::from_secs(6);
    agent.group.sweep(late, Duration::from_secs(10));
    world.commit().await;
    let row = world.task(&task).await;
    assert_eq!(
        (row.state, row.cancel),
        (TaskState::Expired, CancelState::Requested)
    );
    let group = &agent.group;
    group.cancel_acked(agent.slot, id_of(&sent), 1, CancelAck::Stopped);
    world.commit().await;
    let row = world.task(&task).await;
    assert_eq!(
        (row.state, row.cancel),
        (TaskState::Expired, CancelState::Stopped)
    );
}

async fn watched(world: &World, task: &TaskRecord, after: u64) -> Vec<(u64, String)> {
    let watch = world.app.watch_task(&world.admin, task.row.id, after).await;
    let mut watch = watch.expect("the task is there");
    let mut seen = Vec::new();
    let all = async {
        while let Some(news) = watch.next().await {
            let TaskNews::Changed(change) = news.expect("the store works") else {
                panic!("the agent says nothing meanwhile")
            };
            seen.push((change.cursor, change.kind));
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(10), all).await;
    ended.expect("the watch ends");
    seen
}

#[tokio::test]
async fn a_watch_ends_with_the_task_wherever_it_begins() {
    let mut world = World::new().await;
    let mut agent = connected(&world, 1);
    let task = world.submit(None).await;
    let sent = agent.next_task();
    agent.finish(&sent, 1);
    world.commit().await;
    let seen = watched(&world, &task, 0).await;
    let kinds: Vec<&str> = seen.iter().map(|(_, kind)| kind.as_str()).collect();
    assert_eq!(kinds, ["dispatched", "succeeded"]);
    assert_eq!(watched(&world, &task, seen[0].0).await, seen[1..]);
    assert_eq!(
        watched(&world, &task, seen[1].0).await,
        [],
        "its end was seen"
    );
}

#[tokio::test]
async fn a_watch_waits_for_what_is_still_to_come() {
    let mut world = World::new().await;
    let mut agent = connected(&world, 1);
    let task = world.submit(None).await;
    let sent = agent.next_task();
    let watch = world.app.watch_task(&world.admin, task.row.id, 0).await;
    let mut watch = watch.expect("the task is there");
    assert_eq!(word(watch.next().await), "dispatched");
    let (next, ()) = tokio::join!(watch.next(), async {
        agent.finish(&sent, 1);
        world.commit().await;
    });
    assert_eq!(word(next), "succeeded");
    assert!(watch.next().await.is_none());
}

/// What a watcher hears, in a word.
fn word(news: Option<Result<TaskNews>>) -> String {
    match news.expect("there is more").expect("the store works") {
        TaskNews::Changed(change) => change.kind,
        TaskNews::Update(Update::Progress(progress)) => progress.message,
        TaskNews::Update(Update::Partial(partial)) => format!("partial {}", partial.seq),
        TaskNews::Skipped(count) => format!("skipped {count}"),
    }
}

#[tokio::test]
async fn a_watcher_hears_signs_of_life_before_the_end_and_how_many_it_missed() {
    let mut world = World::new().await;
    let mut agent = connected(&world, 1);
    let task = world.submit(None).await;
    let sent = agent.next_task();
    let (group, slot, id) = (Arc::clone(&agent.group), agent.slot, id_of(&sent));
    let half = Progress {
        ppm: Ppm::try_from(500_000).ok(),
        message: "half".to_owned(),
    };
    group.progress(slot, id, 1, half.clone());
    let watch = world.app.watch_task(&world.admin, task.row.id, 0).await;
    let mut watch = watch.expect("the task is there");
    assert_eq!(
        word(watch.next().await),
        "dispatched",
        "who comes later has missed it"
    );
    let piece = |seq| Partial {
        seq,
        chunk: b"piece".to_vec().into(),
    };
    group.progress(slot, id, 1, half);
    assert_eq!(word(watch.next().await), "half");
    for seq in 1..=70 {
        let taken = group.partial(slot, id, 1, piece(seq), 1 << 20);
        taken.expect("in order");
    }
    agent.finish(&sent, 1);
    world.commit().await;
    assert_eq!(
        word(watch.next().await),
        "skipped 6",
        "only so many are kept"
    );
    for seq in 7..=70 {
        assert_eq!(word(watch.next().await), format!("partial {seq}"));
    }
    assert_eq!(word(watch.next().await), "succeeded");
    assert!(watch.next().await.is_none());
}
