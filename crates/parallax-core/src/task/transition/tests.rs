use std::time::Duration;

use super::super::{Payload, Problem, Success, TaskContext};
use super::*;
use crate::id::{TaskId, TenantId};

fn at(second: u64) -> Timestamp {
    Timestamp::from_unix_millis(1_790_000_000_000).plus(Duration::from_secs(second))
}

fn row(state: TaskState, cancel: CancelState, attempt: u32) -> Task {
    Task {
        tenant: TenantId::new(at(0), [1; 10]),
        id: TaskId::new(at(0), [2; 10]),
        agent_name: "scorer".parse().expect("a name"),
        agent: None,
        capability: "score".to_owned(),
        input: Payload::default(),
        idempotency_key: None,
        request_hash: Vec::new(),
        state,
        cancel,
        attempt,
        instance_uuid: Some("a".to_owned()),
        context: TaskContext::default(),
        outcome: None,
        caller: "caller".to_owned(),
        deadline: None,
        not_before: None,
        created_at: at(0),
        updated_at: at(0),
    }
}

fn success() -> Outcome {
    Outcome::Success(Success::of(Payload::default()))
}

fn failure(code: Code, retryable: bool) -> Outcome {
    Outcome::Problem(Problem {
        retryable,
        ..problem(code)
    })
}

fn problem(code: Code) -> Problem {
    Problem {
        code,
        message: "it failed".to_owned(),
        retryable: true,
        agent_code: None,
        retry_after_ms: 0,
    }
}

fn end(outcome: Outcome, idempotent: bool) -> News {
    News::Ended {
        outcome,
        idempotent,
    }
}

fn lost(idempotent: bool) -> News {
    News::InstanceLost { idempotent }
}

/// Where a dispatched task goes, whose cancel is as given.
fn check(cancel: CancelState, attempt: u32, news: &News, expected: (TaskState, CancelState)) {
    let before = row(TaskState::Dispatched, cancel, attempt);
    let after = next(&before, attempt, news, at(1)).expect("the row changes");
    assert_eq!((after.state, after.cancel), expected, "{news:?}");
    assert_eq!(after.updated_at, at(1));
    assert_eq!(
        after.outcome.is_some(),
        after.state.is_terminal(),
        "{news:?}"
    );
    let waits = after.state == TaskState::Queued;
    assert_eq!(after.instance_uuid.is_none(), waits, "{news:?}");
}

#[test]
fn an_attempts_news_move_the_row_by_the_table() {
    use CancelState as C;
    use TaskState as T;
    let none = C::None;
    check(none, 1, &end(success(), false), (T::Succeeded, none));
    check(
        none,
        1,
        &end(failure(Code::AgentFailed, false), true),
        (T::Failed, none),
    );
    check(
        none,
        1,
        &end(failure(Code::AgentFailed, true), false),
        (T::Failed, none),
    );
    check(
        none,
        1,
        &end(failure(Code::AgentFailed, true), true),
        (T::Queued, none),
    );
    check(
        none,
        3,
        &end(failure(Code::AgentFailed, true), true),
        (T::Failed, none),
    );
    check(
        none,
        1,
        &end(failure(Code::Cancelled, false), false),
        (T::Cancelled, none),
    );
    check(
        none,
        1,
        &end(failure(Code::DeadlineExceeded, false), false),
        (T::Expired, none),
    );
    check(
        none,
        1,
        &News::Expired { asked: true },
        (T::Expired, C::Requested),
    );
    check(none, 1, &lost(false), (T::Lost, none));
    check(none, 1, &lost(true), (T::Queued, none));
    check(none, 3, &lost(true), (T::Lost, none));
    check(none, 7, &News::NeverReceived, (T::Queued, none));
}

#[test]
fn a_cancelled_attempt_is_never_tried_again() {
    use CancelState as C;
    use TaskState as T;
    let asked = C::Requested;
    check(asked, 1, &end(success(), true), (T::Succeeded, C::Acked));
    check(
        asked,
        1,
        &end(failure(Code::AgentFailed, true), true),
        (T::Failed, C::Acked),
    );
    check(
        asked,
        1,
        &end(failure(Code::Cancelled, true), true),
        (T::Cancelled, C::Stopped),
    );
    check(asked, 1, &lost(true), (T::Lost, asked));
    check(asked, 1, &News::NeverReceived, (T::Cancelled, C::Stopped));
    check(asked, 1, &News::Withdrawn, (T::Cancelled, C::Stopped));
    check(
        asked,
        1,
        &News::CancelAcked(CancelAck::Stopped),
        (T::Cancelled, C::Stopped),
    );
    check(
        asked,
        1,
        &News::CancelAcked(CancelAck::Unknown),
        (T::Cancelled, C::Stopped),
    );
    check(
        asked,
        1,
        &News::CancelAcked(CancelAck::TooLate),
        (T::Dispatched, C::Acked),
    );
    check(
        asked,
        1,
        &News::CancelUnresolved,
        (T::Dispatched, C::Unresolved),
    );
}

#[test]
fn what_waits_is_over_at_once_and_what_runs_is_asked_to_stop_once() {
    use CancelState as C;
    use TaskState as T;
    let after = |state, cancel| {
        let after = cancelled(row(state, cancel, 1), at(1))?;
        assert_eq!(after.updated_at, at(1));
        Some((after.state, after.cancel, after.outcome.is_some()))
    };
    assert_eq!(
        after(T::Queued, C::None),
        Some((T::Cancelled, C::Stopped, true))
    );
    for state in [T::Dispatched, T::Running, T::Suspect] {
        assert_eq!(after(state, C::None), Some((state, C::Requested, false)));
        assert_eq!(after(state, C::Requested), None);
        assert_eq!(after(state, C::Unresolved), None);
    }
    for end in T::ALL.iter().copied().filter(|s| s.is_terminal()) {
        assert_eq!(after(end, C::None), None, "{end}");
    }
}

#[test]
fn a_dispatch_is_the_next_attempt_and_a_deadline_in_the_queue_an_end() {
    let waiting = Task {
        not_before: Some(at(9)),
        instance_uuid: None,
        ..row(TaskState::Queued, CancelState::None, 1)
    };
    let sent = dispatched(waiting.clone(), "b".to_owned(), at(1));
    let expected = Task {
        instance_uuid: Some("b".to_owned()),
        updated_at: at(1),
        ..row(TaskState::Dispatched, CancelState::None, 2)
    };
    assert_eq!(sent, expected);
    let over = expired_in_queue(waiting, at(1));
    assert_eq!(over.state, TaskState::Expired);
    assert!(over.outcome.is_some());
}

#[test]
fn an_expiry_claims_that_the_agent_was_asked_only_if_it_was() {
    let before = row(TaskState::Dispatched, CancelState::None, 1);
    for asked in [true, false] {
        let after = next(&before, 1, &News::Expired { asked }, at(1)).expect("it ends");
        let expected = Outcome::problem(Code::DeadlineExceeded, expired_words(asked));
        assert_eq!(after.outcome, Some(expected));
    }
}

#[test]
fn a_retry_waits_and_a_task_that_was_not_at_fault_does_not() {
    let before = row(TaskState::Dispatched, CancelState::None, 2);
    let after = |news| next(&before, 2, &news, at(1)).expect("it waits again");
    let failed = after(end(failure(Code::AgentFailed, true), true));
    assert_eq!(failed.not_before, Some(at(2)));
    let asks = Outcome::Problem(Problem {
        retry_after_ms: 30_000,
        ..problem(Code::AgentFailed)
    });
    assert_eq!(after(end(asks, true)).not_before, Some(at(31)), "as asked");
    assert_eq!(after(lost(true)).not_before, None);
    assert_eq!(after(News::NeverReceived).not_before, None);
}

#[test]
fn news_of_another_attempt_change_nothing() {
    let before = row(TaskState::Dispatched, CancelState::None, 2);
    for attempt in [1, 3] {
        assert_eq!(next(&before, attempt, &end(success(), false), at(1)), None);
        assert_eq!(next(&before, attempt, &lost(true), at(1)), None);
    }
    let waiting = row(TaskState::Queued, CancelState::None, 2);
    assert_eq!(next(&waiting, 2, &News::NeverReceived, at(1)), None);
    assert_eq!(next(&waiting, 2, &lost(false), at(1)), None);
}

#[test]
fn an_end_is_final_but_the_fate_of_its_cancel_may_still_become_known() {
    for state in TaskState::ALL.iter().copied().filter(|s| s.is_terminal()) {
        let before = row(state, CancelState::None, 1);
        assert_eq!(next(&before, 1, &end(success(), false), at(1)), None);
        assert_eq!(
            next(&before, 1, &News::CancelAcked(CancelAck::Stopped), at(1)),
            None
        );
    }
    let expired = row(TaskState::Expired, CancelState::Requested, 1);
    let after = |news| next(&expired, 1, &news, at(1)).map(|row| (row.state, row.cancel));
    let told = |cancel| Some((TaskState::Expired, cancel));
    assert_eq!(
        after(News::CancelAcked(CancelAck::Stopped)),
        told(CancelState::Stopped)
    );
    assert_eq!(after(News::CancelUnresolved), told(CancelState::Unresolved));
    assert_eq!(after(end(success(), false)), told(CancelState::Acked));
    assert_eq!(after(lost(true)), None);
    assert_eq!(after(News::Expired { asked: true }), None);
    let stopped = row(TaskState::Expired, CancelState::Stopped, 1);
    assert_eq!(next(&stopped, 1, &News::CancelUnresolved, at(1)), None);
}
