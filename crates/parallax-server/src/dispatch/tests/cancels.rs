//! The state machine of a cancel: asked for, acknowledged, stopped or unresolved.

use parallax_core::task::CancelAck;

use super::*;

fn started() -> (Arc<Group>, Agent, v1::Task, Reply) {
    let group = group();
    let mut agent = Agent::join(&group, "a", 4);
    let (_, reply) = submit(&group, "score");
    let task = agent.next_task();
    agent.accept(&task);
    (group, agent, task, reply)
}

fn cancel(group: &Group, task: &v1::Task) -> CancelRequest {
    group.cancel(id_of(task), "no need", GRACE, Instant::now())
}

fn unresolved(group: &Group) -> u32 {
    group.views(Instant::now())[0].unresolved_cancels
}

#[test]
fn a_call_that_waits_is_withdrawn() {
    let group = group();
    let agent = Agent::join(&group, "a", 0);
    let (id, mut reply) = submit(&group, "score");
    let asked = group.cancel(id, "no need", GRACE, Instant::now());
    assert_eq!(asked, CancelRequest::Withdrawn);
    assert_eq!(outcome(&mut reply), "cancelled");
    group.grant(agent.slot, 1);
    assert_eq!(group.in_flight(agent.slot), 0);
    let again = group.cancel(id, "no need", GRACE, Instant::now());
    assert_eq!(again, CancelRequest::Unknown);
}

#[test]
fn an_agent_is_asked_once_and_its_stop_ends_the_call() {
    let (group, mut agent, task, mut reply) = started();
    assert_eq!(cancel(&group, &task), CancelRequest::Asked);
    assert_eq!(cancel(&group, &task), CancelRequest::Asked);
    let Some(Frame::Cancel(asked)) = agent.next() else {
        panic!("nobody asked")
    };
    assert_eq!((asked.reason.as_str(), asked.grace_ms), ("no need", 10_000));
    assert_eq!(agent.next(), None);
    group.cancel_acked(agent.slot, id_of(&task), 1, CancelAck::Stopped);
    assert_eq!(outcome(&mut reply), "cancelled");
    assert_eq!(group.in_flight(agent.slot), 0);
}

#[test]
fn a_result_that_was_faster_than_the_cancel_counts() {
    let (group, agent, task, mut reply) = started();
    cancel(&group, &task);
    group.cancel_acked(agent.slot, id_of(&task), 1, CancelAck::TooLate);
    assert_eq!(outcome(&mut reply), "open");
    agent.finish(&task, 1);
    assert_eq!(outcome(&mut reply), "ok");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_nobody_answers_shows_as_unresolved_until_it_is() {
    let (group, agent, task, mut reply) = started();
    cancel(&group, &task);
    tokio::time::advance(GRACE - Duration::from_millis(1)).await;
    sweep(&group);
    assert_eq!(unresolved(&group), 0);
    tokio::time::advance(Duration::from_millis(1)).await;
    sweep(&group);
    assert_eq!(unresolved(&group), 1);
    assert_eq!(outcome(&mut reply), "open", "the work may still go on");
    group.cancel_acked(agent.slot, id_of(&task), 1, CancelAck::Stopped);
    assert_eq!(unresolved(&group), 0);
    assert_eq!(outcome(&mut reply), "cancelled");
}

#[test]
fn a_cancel_is_repeated_to_an_agent_that_comes_back() {
    let (group, agent, task, mut reply) = started();
    group.leave(agent.slot);
    assert_eq!(cancel(&group, &task), CancelRequest::Asked);
    let inventory = vec![listed(&task, v1::inventory_item::State::Running)];
    let back = Entry::new("a", 1).again(2, inventory).join(&group);
    assert!(matches!(
        back.verdicts()[..],
        [v1::verdict::Verdict::Cancel(_)]
    ));
    group.cancel_acked(back.slot, id_of(&task), 1, CancelAck::Stopped);
    assert_eq!(outcome(&mut reply), "cancelled");
}

#[test]
fn cancelled_work_that_a_returning_agent_does_not_list_has_stopped() {
    let (group, agent, task, mut reply) = started();
    cancel(&group, &task);
    group.leave(agent.slot);
    let _back = Entry::new("a", 1).again(2, Vec::new()).join(&group);
    assert_eq!(outcome(&mut reply), "cancelled");
}

#[test]
fn an_acknowledgement_of_another_attempt_changes_nothing() {
    let (group, agent, task, mut reply) = started();
    group.cancel_acked(agent.slot, id_of(&task), 2, CancelAck::Stopped);
    assert_eq!(outcome(&mut reply), "open");
    assert_eq!(group.in_flight(agent.slot), 1);
}

#[test]
fn an_abandoned_call_is_stopped_and_never_tried_again() {
    let group = group();
    let offers = vec![capability("score", 0, true)];
    let mut agent = Entry::new("a", 4).offering(offers.clone()).join(&group);
    let (id, _reply) = submit(&group, "score");
    let _task = agent.next_task();
    group.abandon(id, GRACE, Instant::now());
    assert!(matches!(agent.next(), Some(Frame::Cancel(_))));
    let mut other = Entry::new("b", 4).offering(offers).join(&group);
    group.expire(agent.slot, None);
    assert_eq!(other.tasks(), []);
}

#[test]
fn a_caller_that_went_away_is_noticed_by_itself() {
    let (group, mut agent, _task, reply) = started();
    drop(reply);
    sweep(&group);
    assert!(matches!(agent.next(), Some(Frame::Cancel(_))));
}

#[test]
fn a_call_is_held_for_as_long_as_it_waits_or_runs() {
    let group = group();
    let mut agent = Agent::join(&group, "a", 0);
    let call = call("score", None);
    let _reply = submit_call(&group, &call);
    let open = Arc::downgrade(&call);
    drop(call);
    assert!(open.upgrade().is_some(), "it waits");
    group.grant(agent.slot, 1);
    let task = agent.next_task();
    assert!(open.upgrade().is_some(), "it runs");
    agent.finish(&task, 0);
    assert!(open.upgrade().is_none());
}
