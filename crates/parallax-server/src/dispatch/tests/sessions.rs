//! Coming, going and coming back.

use parallax_core::task::Partial;
use parallax_proto::v1::inventory_item::State;
use parallax_proto::v1::verdict::Verdict;

use super::*;

fn idempotent() -> Vec<Capability> {
    vec![capability("score", 0, true)]
}

#[test]
fn the_first_frame_down_is_the_welcome_even_while_calls_wait() {
    let group = group();
    let _idle = Agent::join(&group, "a", 0);
    let (id, _reply) = submit(&group, "score");
    // `join` takes the first frame as the Welcome.
    let mut busy = Agent::join(&group, "b", 1);
    assert_eq!(busy.tasks(), [id]);
}

#[test]
fn each_listed_task_gets_its_verdict_in_order() {
    let group = group();
    let mut agent = Agent::join(&group, "a", 10);
    let mut replies: Vec<_> = (0..3).map(|_| submit(&group, "score")).collect();
    let tasks: Vec<v1::Task> = (0..3).map(|_| agent.next_task()).collect();
    for seq in 1..=7 {
        partial(&group, agent.slot, &tasks[0], seq, 1).expect("in order");
    }
    group.cancel(id_of(&tasks[1]), "no need", GRACE, Instant::now());
    group.leave(agent.slot);
    let mut stranger = tasks[0].clone();
    stranger.r#ref.as_mut().expect("set").task_id = TaskId::new(at(), [9; 10]).to_string();
    let mut earlier = tasks[0].clone();
    earlier.r#ref.as_mut().expect("set").attempt = 0;
    let inventory = vec![
        listed(&tasks[0], State::Running),
        listed(&tasks[1], State::Running),
        listed(&tasks[2], State::Finished),
        listed(&stranger, State::Running),
        listed(&stranger, State::Finished),
        listed(&earlier, State::Finished),
    ];
    let back = Entry::new("a", 7).again(2, inventory).join(&group);
    let cancel = |reason: &str| {
        Verdict::Cancel(v1::CancelVerdict {
            reason: reason.to_owned(),
        })
    };
    let expected = [
        Verdict::Keep(v1::Keep { after_seq: 7 }),
        cancel("the task was cancelled"),
        Verdict::SendResult(v1::SendResult {}),
        cancel("nobody waits for this task any more"),
        Verdict::Forget(v1::Forget {}),
        Verdict::Forget(v1::Forget {}),
    ];
    assert_eq!(back.verdicts(), expected);
    back.finish(&tasks[2], 1);
    assert_eq!(outcome(&mut replies[2].1), "ok");
}

#[test]
fn a_reconnected_agent_finishes_what_it_began() {
    let group = group();
    let mut agent = Agent::join(&group, "a", 1);
    let (_, mut reply) = submit(&group, "score");
    let task = agent.next_task();
    agent.accept(&task);
    assert!(!group.leave(agent.slot), "it is suspect, not gone");
    assert_eq!(group.views(Instant::now())[0].state, LeaseState::Suspect);
    let back = Entry::new("a", 1)
        .again(2, vec![listed(&task, State::Running)])
        .join(&group);
    assert_eq!(outcome(&mut reply), "open");
    back.finish(&task, 1);
    assert_eq!(outcome(&mut reply), "ok");
}

#[test]
fn a_task_that_never_arrived_is_sent_again_as_the_next_attempt() {
    let group = group();
    let mut agent = Agent::join(&group, "a", 1);
    let (id, _reply) = submit(&group, "score");
    assert_eq!(reference(&agent.next_task()).attempt, 1);
    let mut back = Entry::new("a", 1).again(2, Vec::new()).join(&group);
    let again = back.next_task();
    assert_eq!((id_of(&again), reference(&again).attempt), (id, 2));
}

#[test]
fn an_accepted_task_that_is_not_listed_is_lost() {
    let group = group();
    let mut agent = Agent::join(&group, "a", 1);
    let (_, mut reply) = submit(&group, "score");
    let task = agent.next_task();
    agent.accept(&task);
    let mut back = Entry::new("a", 1).again(2, Vec::new()).join(&group);
    assert_eq!(outcome(&mut reply), "agent_lost");
    assert_eq!(back.tasks(), []);
}

#[test]
fn a_newer_session_supersedes_the_older_and_the_older_changes_nothing_any_more() {
    let group = group();
    let mut old = Agent::join(&group, "a", 2);
    let (_, mut reply) = submit(&group, "score");
    let task = old.next_task();
    let mut new = Entry::new("a", 0)
        .again(2, vec![listed(&task, State::Running)])
        .join(&group);
    let Some(Frame::Goaway(goaway)) = old.next() else {
        panic!("no goodbye")
    };
    assert_eq!(goaway.reason(), v1::goaway::Reason::Superseded);
    assert!(old.closed.is_cancelled());
    // Frames that were on their way when the new session began.
    group.grant(old.slot, 5);
    old.finish(&task, 5);
    group.drain(old.slot);
    let (_, _waits) = submit(&group, "score");
    assert_eq!(new.tasks(), [], "the new session has granted nothing");
    assert!(!group.leave(old.slot), "the old one's end ends nothing");
    assert_eq!(group.views(Instant::now())[0].state, LeaseState::Connected);
    new.finish(&task, 0);
    assert_eq!(outcome(&mut reply), "ok");
}

#[test]
fn a_session_that_was_overtaken_does_not_supersede_the_newer() {
    let group = group();
    let mut new = Entry::new("a", 1).again(6, Vec::new()).join(&group);
    assert!(
        Entry::new("a", 1)
            .again(5, Vec::new())
            .try_join(&group)
            .is_none()
    );
    let (id, _reply) = submit(&group, "score");
    assert_eq!(new.tasks(), [id]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_retries_idempotent_work_elsewhere() {
    let group = group();
    let mut gone = Entry::new("a", 1).offering(idempotent()).join(&group);
    let (id, mut reply) = submit(&group, "score");
    let task = gone.next_task();
    gone.accept(&task);
    group.leave(gone.slot);
    let mut other = Entry::new("b", 5).offering(idempotent()).join(&group);
    tokio::time::advance(TTL).await;
    group.renew(other.slot, Instant::now() + TTL, None);
    assert_eq!(sweep(&group), [gone.slot]);
    assert!(group.expire(gone.slot, Some(Instant::now())).is_some());
    let again = other.next_task();
    assert_eq!((id_of(&again), reference(&again).attempt), (id, 2));
    other.finish(&again, 1);
    assert_eq!(outcome(&mut reply), "ok");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_does_not_repeat_other_work() {
    let group = group();
    let mut gone = Agent::join(&group, "a", 1);
    let (_, mut reply) = submit(&group, "score");
    let _task = gone.next_task();
    let mut other = Agent::join(&group, "b", 5);
    tokio::time::advance(TTL).await;
    assert!(group.expire(gone.slot, Some(Instant::now())).is_some());
    assert_eq!(outcome(&mut reply), "agent_lost");
    assert_eq!(other.tasks(), []);
    let Some(Frame::Goaway(goaway)) = gone.next() else {
        panic!("a connected agent is told")
    };
    assert_eq!(goaway.reason(), v1::goaway::Reason::LeaseExpired);
}

#[test]
fn idempotent_work_is_not_tried_for_ever() {
    let group = group();
    let _other = Entry::new("z", 0).offering(idempotent()).join(&group);
    let mut reply = submit(&group, "score").1;
    for (uuid, attempt) in [("a", 1), ("b", 2), ("c", 3)] {
        let mut agent = Entry::new(uuid, 1).offering(idempotent()).join(&group);
        assert_eq!(reference(&agent.next_task()).attempt, attempt);
        assert_eq!(outcome(&mut reply), "open");
        group.expire(agent.slot, None);
    }
    assert_eq!(outcome(&mut reply), "agent_lost");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_renewed_between_the_look_and_the_act_stands() {
    let group = group();
    let agent = Agent::join(&group, "a", 1);
    tokio::time::advance(TTL).await;
    let ended = sweep(&group);
    assert_eq!(ended, [agent.slot]);
    let seen = Instant::now();
    group.renew(agent.slot, seen + TTL, Some(5));
    assert!(group.expire(agent.slot, Some(seen)).is_none());
    assert!(!agent.closed.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_came_back_between_the_look_and_the_act_stays() {
    let group = group();
    let mut agent = Agent::join(&group, "a", 1);
    let (_, mut reply) = submit(&group, "score");
    let task = agent.next_task();
    group.leave(agent.slot);
    tokio::time::advance(TTL).await;
    let ended = sweep(&group);
    let back = Entry::new("a", 1)
        .again(2, vec![listed(&task, State::Running)])
        .join(&group);
    for slot in ended {
        assert!(group.expire(slot, Some(Instant::now())).is_none());
    }
    back.finish(&task, 1);
    assert_eq!(outcome(&mut reply), "ok");
}

#[test]
fn one_agents_loss_never_touches_anothers_tasks() {
    let group = group();
    let mut agents: Vec<Agent> = ["a", "b"].map(|u| Agent::join(&group, u, 2)).into();
    let mut replies: Vec<_> = (0..4).map(|_| submit(&group, "score").1).collect();
    let kept: Vec<v1::Task> = (0..2).map(|_| agents[1].next_task()).collect();
    group.leave(agents[0].slot);
    group.expire(agents[0].slot, None);
    let ends: Vec<String> = replies.iter_mut().map(outcome).collect();
    assert_eq!(ends.iter().filter(|e| *e == "agent_lost").count(), 2);
    assert_eq!(ends.iter().filter(|e| *e == "open").count(), 2);
    for task in &kept {
        agents[1].finish(task, 1);
    }
    let ends: Vec<String> = replies.iter_mut().map(outcome).collect();
    assert_eq!(ends.iter().filter(|e| *e == "ok").count(), 2);
}

#[test]
fn calls_that_wait_for_the_last_instance_are_told_when_it_goes() {
    let group = group();
    let agent = Agent::join(&group, "a", 0);
    let (_, mut reply) = submit(&group, "score");
    assert!(group.leave(agent.slot), "it held nothing");
    assert_eq!(outcome(&mut reply), "agent_unavailable");
    assert_eq!(group.size(), (0, 0));
}

#[test]
fn a_new_stream_has_a_fresh_window() {
    let group = group();
    let mut agent = Agent::join(&group, "a", 1);
    let _call = submit(&group, "score");
    let task = agent.next_task();
    partial(&group, agent.slot, &task, 1, 400).expect("in order");
    let mut back = Entry::new("a", 0)
        .again(2, vec![listed(&task, State::Running)])
        .join(&group);
    partial(&group, back.slot, &task, 2, 400).expect("in order");
    assert_eq!(back.next(), None, "400 bytes of the new window are used");
}

fn partial(
    group: &Group,
    slot: SlotId,
    task: &v1::Task,
    seq: u64,
    bytes: usize,
) -> Result<(), parallax_core::error::Error> {
    let chunk = vec![0; bytes].into();
    group.partial(slot, id_of(task), 1, Partial { seq, chunk }, 1000)
}

#[test]
fn partials_keep_to_their_order_and_their_window() {
    let group = group();
    let mut agent = Agent::join(&group, "a", 1);
    let _call = submit(&group, "score");
    let task = agent.next_task();
    let send = |slot, seq, bytes| partial(&group, slot, &task, seq, bytes).is_ok();
    assert!(!send(agent.slot, 0, 1), "it counts from 1");
    assert!(!send(agent.slot, 2, 1), "the first is missing");
    assert!(send(agent.slot, 1, 400));
    assert!(!send(agent.slot, 3, 1), "the second is missing");
    assert!(!send(agent.slot, 2, 601), "600 bytes are left");
    assert!(send(agent.slot, 2, 600));
    assert!(send(agent.slot, 2, 1), "what was seen is passed over");
    let inventory = vec![listed(&task, State::Running)];
    let back = Entry::new("a", 0).again(2, inventory).join(&group);
    assert!(send(back.slot, 9, 1000), "it has dropped what came before");
    assert!(!send(back.slot, 11, 1), "from then on there are no holes");
    let inventory = vec![listed(&task, State::Running)];
    let last = Entry::new("a", 0).again(3, inventory).join(&group);
    assert!(send(last.slot, u64::MAX, 1));
    assert!(
        send(last.slot, u64::MAX, 1),
        "seen before, and no number comes after it"
    );
}

#[tokio::test]
async fn a_slow_reader_hears_how_many_updates_it_missed() {
    let group = group();
    let mut agent = Agent::join(&group, "a", 1);
    let (down, mut news) = mpsc::channel(3);
    let sink = Sink::Stream {
        call_id: 7,
        permit: down.clone().reserve_owned().await.expect("it is open"),
        updates: Some(Updates::to(&down)),
    };
    let call = call("score", None);
    group.submit(call, 1, sink).expect("the group takes it on");
    let task = agent.next_task();
    let say = |seq| partial(&group, agent.slot, &task, seq, 1).expect("in order");
    (1..=5).for_each(say);
    let mut heard = || news.try_recv().map(|news| (news.skipped, news.event));
    let seq = |event| match event {
        CallEvent::Update(Update::Partial(partial)) => partial.seq,
        other => panic!("{other:?}"),
    };
    for expected in [1, 2] {
        let (skipped, event) = heard().expect("there is room for two");
        assert_eq!((skipped, seq(event)), (0, expected));
    }
    say(6);
    let (skipped, event) = heard().expect("there is room again");
    assert_eq!((skipped, seq(event)), (3, 6));
    (7..=9).for_each(say);
    agent.finish(&task, 0);
    assert_eq!(heard().map(|(skipped, _)| skipped).ok(), Some(0));
    assert_eq!(heard().map(|(skipped, _)| skipped).ok(), Some(0));
    let (skipped, end) = heard().expect("an outcome has its place");
    assert_eq!(skipped, 1);
    assert!(matches!(end, CallEvent::Outcome(Outcome::Success(_))));
}
