//! Durable tasks: reserved, sent, committed, confirmed.

use parallax_core::error::Code;
use parallax_core::task::{CancelAck, CancelState, Progress};
use parallax_proto::v1::inventory_item::State;

use super::*;
use crate::dispatch::Restored;

struct Sent {
    group: Arc<Group>,
    agent: Agent,
    task: v1::Task,
    news: News,
}

fn sent(within: Option<Duration>) -> Sent {
    let group = group();
    let mut agent = Agent::join(&group, "a", 2);
    let (events, news) = News::channel();
    let call = call("score", within);
    let place = group.reserve(call.id, "score").expect("there is room");
    assert_eq!(place.send(&call, 1, Sink::Durable(events)), Placed::Sent);
    let task = agent.next_task();
    Sent {
        group,
        agent,
        task,
        news,
    }
}

#[test]
fn a_result_is_acknowledged_only_once_it_is_committed() {
    let mut t = sent(None);
    t.agent.finish(&t.task, 1);
    assert_eq!(t.agent.next(), None);
    t.agent.finish(&t.task, 0);
    assert_eq!(t.news.words(), ["ended"], "sent twice, committed once");
    t.group.committed(t.agent.slot, id_of(&t.task), 1);
    assert!(matches!(t.agent.next(), Some(Frame::ResultAck(_))));
    assert_eq!(t.group.in_flight(t.agent.slot), 0);
}

#[test]
fn an_agent_lost_while_its_result_is_committed_changes_nothing() {
    let mut t = sent(None);
    t.agent.finish(&t.task, 1);
    t.group.expire(t.agent.slot, None);
    assert_eq!(t.news.words(), ["ended"]);
    t.group.committed(t.agent.slot, id_of(&t.task), 1);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_while_the_result_is_committed_changes_nothing() {
    let mut t = sent(Some(Duration::from_secs(1)));
    t.agent.finish(&t.task, 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    sweep(&t.group);
    t.group
        .cancel_acked(t.agent.slot, id_of(&t.task), 1, CancelAck::Stopped);
    assert_eq!(t.news.words(), ["ended"]);
    assert_eq!(t.agent.next(), None, "nobody asks it to stop");
}

#[tokio::test(start_paused = true)]
async fn an_expired_task_is_told_once_and_then_of_its_cancel() {
    let mut t = sent(Some(Duration::from_secs(1)));
    tokio::time::advance(Duration::from_secs(1)).await;
    sweep(&t.group);
    sweep(&t.group);
    assert_eq!(t.news.words(), ["expired asked=true"]);
    tokio::time::advance(GRACE).await;
    sweep(&t.group);
    sweep(&t.group);
    assert_eq!(t.news.words(), ["CancelUnresolved"]);
    t.group
        .cancel_acked(t.agent.slot, id_of(&t.task), 1, CancelAck::Stopped);
    assert_eq!(t.news.words(), ["cancel Stopped"]);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_said_to_have_been_asked_who_was_not_there() {
    let mut t = sent(Some(Duration::from_secs(1)));
    t.group.grant(t.agent.slot, 1);
    let attached = call("score", Some(Duration::from_secs(1)));
    let mut reply = submit_call(&t.group, &attached);
    t.group.leave(t.agent.slot);
    tokio::time::advance(Duration::from_secs(1)).await;
    sweep(&t.group);
    assert_eq!(t.news.words(), ["expired asked=false"]);
    let told = reply.try_recv().expect("the caller is told");
    let expected =
        "the deadline passed; the agent is not connected, so it could not be asked to stop";
    assert_eq!(told, Outcome::problem(Code::DeadlineExceeded, expected));
}

fn nothing_new() -> Progress {
    Progress {
        ppm: None,
        message: String::new(),
    }
}

#[test]
fn an_agent_that_repeats_itself_fills_no_queue() {
    let mut t = sent(None);
    t.group
        .cancel(id_of(&t.task), "no need", GRACE, Instant::now());
    for _ in 0..100 {
        let (slot, id) = (t.agent.slot, id_of(&t.task));
        t.group.accepted(slot, id, 1);
        t.group.progress(slot, id, 1, nothing_new());
        t.group.cancel_acked(slot, id, 1, CancelAck::TooLate);
    }
    assert_eq!(t.news.words(), ["cancel TooLate"]);
}

#[test]
fn a_lost_instance_is_told_with_what_the_capability_declared() {
    let group = group();
    let offers = vec![capability("score", 0, true)];
    let agent = Entry::new("a", 1).offering(offers).join(&group);
    let (events, mut news) = News::channel();
    let call = call("score", None);
    let place = group.reserve(call.id, "score").expect("there is room");
    place.send(&call, 1, Sink::Durable(events));
    group.leave(agent.slot);
    assert_eq!(news.words(), Vec::<String>::new(), "suspect is not lost");
    group.expire(agent.slot, None);
    assert_eq!(news.words(), ["lost idempotent=true"]);
}

#[test]
fn a_task_that_never_arrived_is_told_as_such() {
    let mut t = sent(None);
    let _back = Entry::new("a", 2).again(2, Vec::new()).join(&t.group);
    assert_eq!(t.news.words(), ["NeverReceived"]);
}

#[test]
fn a_place_takes_credit_and_concurrency_and_gives_both_back() {
    let group = group();
    let offers = vec![capability("score", 1, false)];
    let agent = Entry::new("a", 5).offering(offers).join(&group);
    let (a, b) = (call("score", None), call("score", None));
    let place = group.reserve(a.id, "score").expect("there is room");
    assert!(group.reserve(b.id, "score").is_none(), "one at a time");
    assert_eq!(group.live_state(a.id, "a"), Some((false, true)));
    let (_, mut reply) = submit(&group, "score");
    drop(place);
    assert_eq!(group.live_state(a.id, "a"), None);
    assert_eq!(group.in_flight(agent.slot), 1, "the room goes to who waits");
    assert_eq!(outcome(&mut reply), "open");
    assert_eq!(group.views(Instant::now())[0].credit, 4);
}

#[test]
fn a_place_on_an_earlier_session_is_void_and_makes_no_credit() {
    let group = group();
    let _old = Agent::join(&group, "a", 1);
    let (first, second) = (call("score", None), call("score", None));
    let place = group.reserve(first.id, "score").expect("there is room");
    let mut back = Entry::new("a", 1).again(2, Vec::new()).join(&group);
    let (events, _news) = News::channel();
    assert_eq!(place.send(&first, 1, Sink::Durable(events)), Placed::Gone);
    let dropped = group
        .reserve(second.id, "score")
        .expect("Hello restated it");
    let _again = Entry::new("a", 1).again(3, Vec::new()).join(&group);
    drop(dropped);
    assert_eq!(group.views(Instant::now())[0].credit, 1);
    assert_eq!(back.tasks(), []);
}

#[test]
fn a_cancel_between_the_commit_and_the_sending_is_not_lost() {
    let group = group();
    let mut agent = Agent::join(&group, "a", 1);
    let call = call("score", None);
    let place = group.reserve(call.id, "score").expect("there is room");
    let asked = group.cancel(call.id, "no need", GRACE, Instant::now());
    assert_eq!(asked, CancelRequest::Asked);
    let (events, _news) = News::channel();
    assert_eq!(
        place.send(&call, 1, Sink::Durable(events)),
        Placed::Withdrawn
    );
    assert_eq!(agent.tasks(), []);
    assert_eq!(group.views(Instant::now())[0].credit, 1);
}

#[test]
fn room_is_told_of_only_to_those_who_found_none() {
    let group = group();
    let agent = Agent::join(&group, "a", 1);
    let (first, second) = (call("score", None), call("score", None));
    let place = group.reserve_or_wait(first.id, "score");
    assert!(place.is_some() && !group.take_backlog());
    assert!(group.reserve_or_wait(second.id, "score").is_none());
    group.grant(agent.slot, 1);
    assert!(group.take_backlog());
    assert!(!group.take_backlog());
}

fn restored(call: &Arc<Call>, events: mpsc::UnboundedSender<DurableEvent>) -> Restored {
    Restored {
        uuid: "a".to_owned(),
        call: Arc::clone(call),
        attempt: 1,
        sink: Sink::Durable(events),
        accepted: true,
        idempotent: false,
        cancel: CancelState::None,
        cancel_due: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_restored_task_waits_for_its_instance_for_one_lease() {
    let group = group();
    let (events, mut news) = News::channel();
    let call = call("score", None);
    group.restore(restored(&call, events), Instant::now() + TTL, at());
    assert_eq!(group.live_state(call.id, "a"), Some((true, false)));
    let (_, mut reply) = submit(&group, "score");
    assert_eq!(
        outcome(&mut reply),
        "open",
        "nobody has said what it offers"
    );
    tokio::time::advance(TTL).await;
    for slot in sweep(&group) {
        group.expire(slot, Some(Instant::now()));
    }
    assert_eq!(news.words(), ["lost idempotent=false"]);
    assert_eq!(outcome(&mut reply), "agent_unavailable");
}

#[test]
fn a_restored_task_is_finished_by_its_instance() {
    let group = group();
    let (events, mut news) = News::channel();
    let call = call("score", None);
    group.restore(restored(&call, events), Instant::now() + TTL, at());
    let task = v1::Task {
        r#ref: Some(v1::TaskRef {
            task_id: call.id.to_string(),
            attempt: 1,
            ..v1::TaskRef::default()
        }),
        ..v1::Task::default()
    };
    let inventory = vec![listed(&task, State::Finished)];
    let back = Entry::new("a", 1).again(1, inventory).join(&group);
    assert_eq!(
        back.verdicts(),
        [v1::verdict::Verdict::SendResult(v1::SendResult {})]
    );
    back.finish(&task, 0);
    assert_eq!(news.words(), ["ended"]);
}
