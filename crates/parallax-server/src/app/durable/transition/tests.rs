use std::time::Duration;

use parallax_core::id::{TaskId, TenantId};
use parallax_core::task::Payload;
use v1::cancel_ack::Outcome as Ack;

use super::*;

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
        input: Payload::Json(b"{}".to_vec()),
        idempotency_key: None,
        request_hash: Vec::new(),
        state,
        cancel,
        attempt,
        instance_uuid: Some("a".to_owned()),
        context_json: String::new(),
        outcome_json: None,
        caller: "caller".to_owned(),
        deadline: None,
        not_before: None,
        created_at: at(0),
        updated_at: at(0),
    }
}

fn success() -> Outcome {
    Outcome::Success(v1::TaskSuccess::default())
}

fn failure(code: &str, retryable: bool) -> Outcome {
    Outcome::Problem(v1::TaskProblem {
        code: code.to_owned(),
        retryable,
        ..v1::TaskProblem::default()
    })
}

fn end(outcome: Outcome, idempotent: bool) -> Kind {
    Kind::Ended {
        outcome,
        idempotent,
        from: 1,
    }
}

fn lost(idempotent: bool) -> Kind {
    Kind::InstanceLost { idempotent }
}

/// Where a dispatched task goes, whose cancel is as given.
fn check(cancel: CancelState, attempt: u32, kind: &Kind, expected: (TaskState, CancelState)) {
    let before = row(TaskState::Dispatched, cancel, attempt);
    let after = next(&before, attempt, kind, at(1)).expect("the row changes");
    assert_eq!((after.state, after.cancel), expected, "{kind:?}");
    assert_eq!(after.updated_at, at(1));
    assert_eq!(
        after.outcome_json.is_some(),
        after.state.is_terminal(),
        "{kind:?}"
    );
    let waits = after.state == TaskState::Queued;
    assert_eq!(after.instance_uuid.is_none(), waits, "{kind:?}");
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
        &end(failure("agent_failed", false), true),
        (T::Failed, none),
    );
    check(
        none,
        1,
        &end(failure("agent_failed", true), false),
        (T::Failed, none),
    );
    check(
        none,
        1,
        &end(failure("agent_failed", true), true),
        (T::Queued, none),
    );
    check(
        none,
        3,
        &end(failure("agent_failed", true), true),
        (T::Failed, none),
    );
    check(
        none,
        1,
        &end(failure("cancelled", false), false),
        (T::Cancelled, none),
    );
    check(
        none,
        1,
        &end(failure("deadline_exceeded", false), false),
        (T::Expired, none),
    );
    check(none, 1, &Kind::Expired, (T::Expired, C::Requested));
    check(none, 1, &lost(false), (T::Lost, none));
    check(none, 1, &lost(true), (T::Queued, none));
    check(none, 3, &lost(true), (T::Lost, none));
    check(none, 7, &Kind::NeverReceived, (T::Queued, none));
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
        &end(failure("agent_failed", true), true),
        (T::Failed, C::Acked),
    );
    check(
        asked,
        1,
        &end(failure("cancelled", true), true),
        (T::Cancelled, C::Stopped),
    );
    check(asked, 1, &lost(true), (T::Lost, asked));
    check(asked, 1, &Kind::NeverReceived, (T::Cancelled, C::Stopped));
    check(asked, 1, &Kind::Withdrawn, (T::Cancelled, C::Stopped));
    check(
        asked,
        1,
        &Kind::CancelAcked(Ack::Stopped),
        (T::Cancelled, C::Stopped),
    );
    check(
        asked,
        1,
        &Kind::CancelAcked(Ack::Unknown),
        (T::Cancelled, C::Stopped),
    );
    check(
        asked,
        1,
        &Kind::CancelAcked(Ack::TooLate),
        (T::Dispatched, C::Acked),
    );
    check(
        asked,
        1,
        &Kind::CancelUnresolved,
        (T::Dispatched, C::Unresolved),
    );
}

#[test]
fn a_retry_waits_and_a_task_that_was_not_at_fault_does_not() {
    let before = row(TaskState::Dispatched, CancelState::None, 2);
    let after = |kind| next(&before, 2, &kind, at(1)).expect("it waits again");
    let failed = after(end(failure("agent_failed", true), true));
    assert_eq!(failed.not_before, Some(at(2)));
    let asks = Outcome::Problem(v1::TaskProblem {
        code: "agent_failed".to_owned(),
        retryable: true,
        retry_after_ms: 30_000,
        ..v1::TaskProblem::default()
    });
    assert_eq!(after(end(asks, true)).not_before, Some(at(31)), "as asked");
    assert_eq!(after(lost(true)).not_before, None);
    assert_eq!(after(Kind::NeverReceived).not_before, None);
}

#[test]
fn news_of_another_attempt_change_nothing() {
    let before = row(TaskState::Dispatched, CancelState::None, 2);
    for attempt in [1, 3] {
        assert_eq!(next(&before, attempt, &end(success(), false), at(1)), None);
        assert_eq!(next(&before, attempt, &lost(true), at(1)), None);
    }
    let waiting = row(TaskState::Queued, CancelState::None, 2);
    assert_eq!(next(&waiting, 2, &Kind::NeverReceived, at(1)), None);
    assert_eq!(next(&waiting, 2, &lost(false), at(1)), None);
}

#[test]
fn an_end_is_final_but_the_fate_of_its_cancel_may_still_become_known() {
    for state in TaskState::ALL.iter().copied().filter(|s| s.is_terminal()) {
        let before = row(state, CancelState::None, 1);
        assert_eq!(next(&before, 1, &end(success(), false), at(1)), None);
        assert_eq!(
            next(&before, 1, &Kind::CancelAcked(Ack::Stopped), at(1)),
            None
        );
    }
    let expired = row(TaskState::Expired, CancelState::Requested, 1);
    let after = |kind| next(&expired, 1, &kind, at(1)).map(|row| (row.state, row.cancel));
    let told = |cancel| Some((TaskState::Expired, cancel));
    assert_eq!(
        after(Kind::CancelAcked(Ack::Stopped)),
        told(CancelState::Stopped)
    );
    assert_eq!(after(Kind::CancelUnresolved), told(CancelState::Unresolved));
    assert_eq!(after(end(success(), false)), told(CancelState::Acked));
    assert_eq!(after(lost(true)), None);
    assert_eq!(after(Kind::Expired), None);
    let stopped = row(TaskState::Expired, CancelState::Stopped, 1);
    assert_eq!(next(&stopped, 1, &Kind::CancelUnresolved, at(1)), None);
}
