//! What news of an attempt make of a task's row: a table, without I/O.

use std::time::Duration;

use parallax_core::backoff::restart_delay;
use parallax_core::error::Code;
use parallax_core::task::{AfterLoss, CancelState, MAX_ATTEMPTS, Task, TaskState, after_loss};
use parallax_core::time::Timestamp;
use parallax_proto::v1;

use super::convert::{outcome_to_json, problem_json};
use crate::dispatch::{DurableEventKind as Kind, Outcome};

/// The row after the news of `attempt`; `None` where they change nothing.
pub(super) fn next(row: &Task, attempt: u32, kind: &Kind, now: Timestamp) -> Option<Task> {
    if row.attempt != attempt {
        return None;
    }
    let mut row = row.clone();
    row.updated_at = now;
    if row.state.is_terminal() {
        return late_cancel_news(row, kind);
    }
    // A task that waits again has done with this attempt.
    row.state.is_leased().then(|| advance(row, kind, now))
}

/// An end is final; only whether the agent has let go of the work may still become known.
fn late_cancel_news(mut row: Task, kind: &Kind) -> Option<Task> {
    let open = matches!(row.cancel, CancelState::Requested | CancelState::Unresolved);
    row.cancel = match kind {
        Kind::CancelAcked(v1::cancel_ack::Outcome::TooLate) | Kind::Ended { .. } => {
            CancelState::Acked
        }
        Kind::CancelAcked(_) => CancelState::Stopped,
        Kind::CancelUnresolved if row.cancel == CancelState::Requested => CancelState::Unresolved,
        _ => return None,
    };
    open.then_some(row)
}

fn advance(row: Task, kind: &Kind, now: Timestamp) -> Task {
    let cancelling = row.cancel != CancelState::None;
    match kind {
        Kind::Ended {
            outcome,
            idempotent,
            ..
        } if !cancelling && retries(outcome, *idempotent, row.attempt) => {
            let after = restart_delay(row.attempt).max(asked_delay(outcome));
            Task {
                not_before: Some(now.plus(after)),
                ..queued(row)
            }
        }
        Kind::Ended { outcome, .. } => ended(row, outcome),
        Kind::Expired => Task {
            cancel: CancelState::Requested,
            ..over(
                row,
                TaskState::Expired,
                Code::DeadlineExceeded,
                "the deadline passed; the agent was told to stop",
            )
        },
        Kind::InstanceLost { idempotent }
            if !cancelling && after_loss(*idempotent, row.attempt) == AfterLoss::Retry =>
        {
            queued(row)
        }
        Kind::InstanceLost { .. } => over(
            row,
            TaskState::Lost,
            Code::AgentLost,
            "the instance that had the task went away; the work may have happened or not",
        ),
        Kind::NeverReceived if !cancelling => queued(row),
        Kind::NeverReceived | Kind::Withdrawn => stopped(row, "cancelled before it was sent"),
        Kind::CancelAcked(v1::cancel_ack::Outcome::TooLate) => Task {
            cancel: CancelState::Acked,
            ..row
        },
        Kind::CancelAcked(_) => stopped(row, "the agent stopped the work"),
        Kind::CancelUnresolved => Task {
            cancel: CancelState::Unresolved,
            ..row
        },
    }
}

fn queued(row: Task) -> Task {
    Task {
        state: TaskState::Queued,
        instance_uuid: None,
        not_before: None,
        ..row
    }
}

fn stopped(row: Task, message: &str) -> Task {
    Task {
        cancel: CancelState::Stopped,
        ..over(row, TaskState::Cancelled, Code::Cancelled, message)
    }
}

fn over(row: Task, state: TaskState, code: Code, message: &str) -> Task {
    Task {
        state,
        outcome_json: Some(problem_json(code, message)),
        ..row
    }
}

/// A task that nobody was given ends for its deadline.
pub(super) fn expired_in_queue(row: Task) -> Task {
    over(
        row,
        TaskState::Expired,
        Code::DeadlineExceeded,
        "the deadline passed before an instance had room",
    )
}

fn retries(outcome: &Outcome, idempotent: bool, attempt: u32) -> bool {
    let retryable = matches!(outcome, Outcome::Problem(problem) if problem.retryable);
    retryable && idempotent && attempt < MAX_ATTEMPTS
}

/// How long the agent asked to be left alone.
fn asked_delay(outcome: &Outcome) -> Duration {
    match outcome {
        Outcome::Problem(problem) => Duration::from_millis(problem.retry_after_ms),
        Outcome::Success(_) => Duration::ZERO,
    }
}

fn ended(row: Task, outcome: &Outcome) -> Task {
    let is = |problem: &v1::TaskProblem, code: Code| problem.code == code.as_str();
    let state = match outcome {
        Outcome::Success(_) => TaskState::Succeeded,
        Outcome::Problem(problem) if is(problem, Code::Cancelled) => TaskState::Cancelled,
        Outcome::Problem(problem) if is(problem, Code::DeadlineExceeded) => TaskState::Expired,
        Outcome::Problem(_) => TaskState::Failed,
    };
    let cancel = match (row.cancel, state) {
        (CancelState::None, _) => CancelState::None,
        (_, TaskState::Cancelled) => CancelState::Stopped,
        _ => CancelState::Acked,
    };
    Task {
        state,
        cancel,
        outcome_json: Some(outcome_to_json(outcome)),
        ..row
    }
}

#[cfg(test)]
mod tests;
