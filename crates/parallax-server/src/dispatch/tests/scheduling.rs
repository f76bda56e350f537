//! Who gets what: credit, fairness, concurrency, the waiting queue.

use parallax_core::task::Partial;

use super::*;

#[test]
fn no_instance_is_sent_more_than_its_credit() {
    let group = group();
    let mut agent = Agent::join(&group, "a", 3);
    let calls: Vec<_> = (0..10).map(|_| submit(&group, "score")).collect();
    let first: Vec<v1::Task> = (0..3).map(|_| agent.next_task()).collect();
    assert_eq!(agent.next(), None);
    agent.finish(&first[0], 0);
    assert_eq!(agent.tasks(), [], "a result without credit makes no room");
    agent.finish(&first[1], 1);
    group.grant(agent.slot, 2);
    let sent: Vec<TaskId> = first.iter().map(id_of).chain(agent.tasks()).collect();
    let submitted: Vec<TaskId> = calls.iter().map(|(id, _)| *id).collect();
    assert_eq!(sent, submitted[..6], "first come, first served");
    assert_eq!(group.size(), (1, 4));
}

#[test]
fn credit_has_a_ceiling() {
    let group = group();
    let agent = Agent::join(&group, "a", u32::MAX);
    group.grant(agent.slot, u32::MAX);
    assert_eq!(group.views(Instant::now())[0].credit, MAX_CREDIT);
}

#[test]
fn instances_take_turns() {
    let group = group();
    let mut agents: Vec<Agent> = ["a", "b", "c"]
        .map(|uuid| Agent::join(&group, uuid, 100))
        .into();
    let _calls: Vec<_> = (0..30).map(|_| submit(&group, "score")).collect();
    let shares: Vec<usize> = agents.iter_mut().map(|a| a.tasks().len()).collect();
    assert_eq!(shares, [10, 10, 10]);
}

#[test]
fn a_capability_is_not_given_more_than_it_can_do_at_once() {
    let group = group();
    let offers = vec![capability("scan", 2, false), capability("score", 0, false)];
    let mut agent = Entry::new("a", 10).offering(offers).join(&group);
    let _scans: Vec<_> = (0..4).map(|_| submit(&group, "scan")).collect();
    let first = agent.next_task();
    assert_eq!(agent.tasks().len(), 1);
    agent.finish(&first, 1);
    assert_eq!(agent.tasks().len(), 1);
}

#[test]
fn a_busy_capability_lets_others_by() {
    let group = group();
    let offers = vec![capability("scan", 1, false), capability("score", 0, false)];
    let mut agent = Entry::new("a", 10).offering(offers).join(&group);
    let (running, _r) = submit(&group, "scan");
    let (waiting, _w) = submit(&group, "scan");
    let (other, _o) = submit(&group, "score");
    assert_eq!(agent.tasks(), [running, other], "{waiting} waits alone");
}

#[test]
fn a_busy_capability_lets_others_by_that_wait_behind_it() {
    let group = group();
    let offers = vec![capability("scan", 1, false), capability("score", 0, false)];
    let mut agent = Entry::new("a", 1).offering(offers).join(&group);
    let (_, _r) = submit(&group, "scan");
    let (_, _w) = submit(&group, "scan");
    let (other, _o) = submit(&group, "score");
    assert_eq!(agent.tasks().len(), 1);
    group.grant(agent.slot, 1);
    assert_eq!(agent.tasks(), [other]);
}

#[test]
fn the_queue_has_an_end() {
    let group = group();
    let _agent = Agent::join(&group, "a", 0);
    let replies: Vec<_> = (0..10_000).map(|_| submit(&group, "score")).collect();
    let (reply, _outcome) = oneshot::channel();
    let refused = group
        .submit(call("score", None), 1, Sink::Reply(reply))
        .expect_err("the queue is full");
    assert_eq!(refused.error.code.as_str(), "resource_exhausted");
    drop(replies);
    sweep(&group);
    assert_eq!(group.size(), (1, 0), "callers that went away hold no place");
}

#[test]
fn a_call_for_nobody_is_refused_at_once() {
    let group = group();
    let refused = |capability| {
        let (reply, _outcome) = oneshot::channel();
        let result = group.submit(call(capability, None), 1, Sink::Reply(reply));
        result.expect_err("it is refused").error.code.as_str()
    };
    assert_eq!(refused("score"), "agent_unavailable");
    let _agent = Agent::join(&group, "a", 1);
    assert_eq!(refused("sing"), "capability_unknown");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_in_the_queue_ends_the_call_and_only_that_call() {
    let group = group();
    let mut agent = Agent::join(&group, "a", 0);
    let mut short = submit_call(&group, &call("score", Some(Duration::from_secs(1))));
    let (patient, mut other) = submit(&group, "score");
    tokio::time::advance(Duration::from_secs(1)).await;
    sweep(&group);
    assert_eq!(outcome(&mut short), "deadline_exceeded");
    assert_eq!(outcome(&mut other), "open");
    group.grant(agent.slot, 5);
    assert_eq!(agent.tasks(), [patient]);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_at_the_agent_ends_the_call_and_cancels_the_work() {
    let group = group();
    let mut agent = Agent::join(&group, "a", 1);
    let mut reply = submit_call(&group, &call("score", Some(Duration::from_secs(1))));
    let task = agent.next_task();
    assert_eq!(task.time_left_ms, 1000);
    tokio::time::advance(Duration::from_secs(1)).await;
    sweep(&group);
    sweep(&group);
    assert_eq!(outcome(&mut reply), "deadline_exceeded");
    assert!(matches!(agent.next(), Some(Frame::Cancel(_))));
    assert_eq!(agent.next(), None, "it is asked once");
    agent.finish(&task, 1);
    group.acknowledge();
    assert!(
        matches!(agent.next(), Some(Frame::ResultAck(_))),
        "too late, and dropped"
    );
    assert_eq!(group.in_flight(agent.slot), 0);
}

#[test]
fn a_draining_instance_gets_nothing_new_and_keeps_what_it_has() {
    let group = group();
    let mut leaving = Agent::join(&group, "a", 5);
    let (_, mut reply) = submit(&group, "score");
    let task = leaving.next_task();
    assert_eq!(group.drain(leaving.slot), 1);
    let mut other = Agent::join(&group, "b", 5);
    let (id, _reply) = submit(&group, "score");
    assert_eq!((leaving.tasks(), other.tasks()), (vec![], vec![id]));
    leaving.finish(&task, 1);
    assert_eq!(outcome(&mut reply), "ok");
    assert_eq!(group.drain(leaving.slot), 0);
}

#[test]
fn an_instance_that_does_not_read_is_passed_over() {
    let group = group();
    let mut slow = Entry::new("a", 5);
    slow.room = 2;
    let mut slow = slow.join(&group);
    let mut quick = Agent::join(&group, "b", 5);
    let calls: Vec<_> = (0..7).map(|_| submit(&group, "score")).collect();
    assert_eq!(slow.tasks().len() + quick.tasks().len(), calls.len());
    assert_eq!(group.size(), (2, 0));
}

#[test]
fn a_partials_bytes_are_granted_again_in_halves() {
    let group = group();
    let mut agent = Agent::join(&group, "a", 1);
    let _call = submit(&group, "score");
    let task = agent.next_task();
    let partial = |seq, bytes| {
        let chunk = vec![0; bytes].into();
        let partial = Partial { seq, chunk };
        let taken = group.partial(agent.slot, id_of(&task), 1, partial, 1000);
        taken.expect("it keeps to order and window");
    };
    partial(1, 400);
    partial(1, 99);
    let mut grants = Vec::new();
    partial(2, 1);
    while let Ok(Ok(frame)) = agent.frames.try_recv() {
        if let Some(Frame::PartialCredit(grant)) = frame.frame {
            grants.push(grant.bytes);
        }
    }
    assert_eq!(grants, [500], "what was sent twice was sent all the same");
}

#[test]
fn names_without_instances_are_forgotten() {
    let directory = Directory::default();
    let tenant = TenantId::new(at(), [1; 10]);
    let name = "scorer".parse().expect("a name");
    let held = directory.find_or_create(tenant, &name);
    directory.prune();
    assert!(
        directory.find(tenant, &name).is_some(),
        "somebody is about to join"
    );
    let agent = Agent::join(&held, "a", 1);
    drop(held);
    let slot = agent.slot;
    let group = directory.find(tenant, &name).expect("an instance is there");
    drop(agent);
    group.leave(slot);
    drop(group);
    directory.prune();
    assert!(directory.find(tenant, &name).is_none());
}

#[test]
fn a_received_result_is_acknowledged_with_the_next_task_or_with_others() {
    let group = group();
    let mut agent = Agent::join(&group, "a", 1);
    let (_, _first) = submit(&group, "score");
    let first = agent.next_task();
    agent.finish(&first, 1);
    assert_eq!(agent.next(), None, "it waits for company");
    let (_, _second) = submit(&group, "score");
    let Some(Frame::ResultAck(ack)) = agent.next() else {
        panic!("the acknowledgement goes first")
    };
    assert_eq!(ack.r#ref, first.r#ref);
    let second = agent.next_task();
    agent.finish(&second, 1);
    group.acknowledge();
    assert!(matches!(agent.next(), Some(Frame::ResultAck(_))));
}

#[test]
fn an_instance_that_drains_waits_for_no_acknowledgement() {
    let group = group();
    let mut agent = Agent::join(&group, "a", 2);
    let (_, _one) = submit(&group, "score");
    let (_, _other) = submit(&group, "score");
    let (one, other) = (agent.next_task(), agent.next_task());
    agent.finish(&one, 0);
    group.drain(agent.slot);
    assert!(matches!(agent.next(), Some(Frame::ResultAck(_))));
    agent.finish(&other, 0);
    assert!(matches!(agent.next(), Some(Frame::ResultAck(_))));
}
