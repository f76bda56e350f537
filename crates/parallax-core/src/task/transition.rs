//! The one state machine of durable tasks: what each event makes of a task's row.
//!
//! ```text
//!            dispatched          accepted (seen live, not stored)
//!  queued ───────────────▶ dispatched ─▶ running ⇄ suspect
//!    │  ▲                     │
//!    │  └──── next: a retry, or it never arrived
//!    │                        │ next
//!    ▼ cancelled, expired     ▼
//!  cancelled, expired       succeeded, failed, cancelled, expired, lost
//! ```
//!
//! Ends are final; only whether the agent has let go of the work may still become known.

use std::time::Duration;

use super::{
    AfterLoss, CancelAck, CancelState, MAX_ATTEMPTS, Outcome, Task, TaskState, after_loss,
};
use crate::backoff::restart_delay;
use crate::error::Code;
use crate::time::Timestamp;

/// What is heard of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The agent's outcome.
    Ended {
        outcome: Outcome,
        idempotent: bool,
    },
    /// The deadline passed; whether the agent was asked to stop.
    Expired {
        asked: bool,
    },
    /// The instance is gone; nothing is known of the work.
    InstanceLost {
        idempotent: bool,
    },
    /// The instance never had the task: it may be dispatched again in any case.
    NeverReceived,
    /// Cancelled between its commit and the moment it would have been sent.
    Withdrawn,
    CancelAcked(CancelAck),
    /// The grace of a cancel passed without an answer.
    CancelUnresolved,
}

/// A waiting task as it is just before the instance `uuid` is sent its next attempt.
#[must_use]
pub fn dispatched(row: Task, uuid: String, now: Timestamp) -> Task {
    Task {
        state: TaskState::Dispatched,
        attempt: row.attempt + 1,
        instance_uuid: Some(uuid),
        not_before: None,
        updated_at: now,
        ..row
    }
}

/// The row after somebody asked for a stop; `None` where that changes nothing. What waits is over at
/// once.
#[must_use]
pub fn cancelled(row: Task, now: Timestamp) -> Option<Task> {
    let row = Task {
        updated_at: now,
        ..row
    };
    match (row.state, row.cancel) {
        (TaskState::Queued, _) => Some(stopped(row, BEFORE_IT_WAS_SENT)),
        (state, CancelState::None) if state.is_leased() => Some(Task {
            cancel: CancelState::Requested,
            ..row
        }),
        _ => None,
    }
}

/// A task that nobody was given ends for its deadline.
#[must_use]
pub fn expired_in_queue(row: Task, now: Timestamp) -> Task {
    let row = Task {
        updated_at: now,
        ..row
    };
    let message = "the deadline passed before an instance had room";
    over(row, TaskState::Expired, Code::DeadlineExceeded, message)
}

/// The row after the news of `attempt`; `None` where they change nothing.
#[must_use]
pub fn next(row: &Task, attempt: u32, news: &News, now: Timestamp) -> Option<Task> {
    if row.attempt != attempt {
        return None;
    }
    let mut row = row.clone();
    row.updated_at = now;
    if row.state.is_terminal() {
        return late_cancel_news(row, news);
    }
    // A task that waits again has done with this attempt.
    row.state.is_leased().then(|| advance(row, news, now))
}

fn late_cancel_news(mut row: Task, news: &News) -> Option<Task> {
    let open = matches!(row.cancel, CancelState::Requested | CancelState::Unresolved);
    row.cancel = match news {
        News::CancelAcked(CancelAck::TooLate) | News::Ended { .. } => CancelState::Acked,
        News::CancelAcked(CancelAck::Stopped | CancelAck::Unknown) => CancelState::Stopped,
        News::CancelUnresolved if row.cancel == CancelState::Requested => CancelState::Unresolved,
        _ => return None,
    };
    open.then_some(row)
}

fn advance(row: Task, news: &News, now: Timestamp) -> Task {
    let cancelling = row.cancel != CancelState::None;
    match news {
        News::Ended {
            outcome,
            idempotent,
        } if !cancelling && retries(outcome, *idempotent, row.attempt) => {
            let after = restart_delay(row.attempt).max(asked_delay(outcome));
            Task {
                not_before: Some(now.plus(after)),
                ..queued(row)
            }
        }
        News::Ended { outcome, .. } => ended(row, outcome),
        News::Expired { asked } => Task {
            cancel: CancelState::Requested,
            ..over(
                row,
                TaskState::Expired,
                Code::DeadlineExceeded,
                expired_words(*asked),
            )
        },
        News::InstanceLost { idempotent }
            if !cancelling && after_loss(*idempotent, row.attempt) == AfterLoss::Retry =>
        {
            queued(row)
        }
        News::InstanceLost { .. } => over(
            row,
            TaskState::Lost,
            Code::AgentLost,
            "the instance that had the task went away; the work may have happened or not",
        ),
        News::NeverReceived if !cancelling => queued(row),
        News::NeverReceived | News::Withdrawn => stopped(row, BEFORE_IT_WAS_SENT),
        News::CancelAcked(CancelAck::TooLate) => Task {
            cancel: CancelState::Acked,
            ..row
        },
        News::CancelAcked(CancelAck::Stopped) => stopped(row, "the agent stopped the work"),
        News::CancelAcked(CancelAck::Unknown) => {
            stopped(row, "the agent says that it does not have the task")
        }
        News::CancelUnresolved => Task {
            cancel: CancelState::Unresolved,
            ..row
        },
    }
}

const BEFORE_IT_WAS_SENT: &str = "cancelled before it was sent";

/// What a caller is told whose time is up while an instance has the task.
#[must_use]
pub const fn expired_words(asked: bool) -> &'static str {
    if asked {
        "the deadline passed; the agent was asked to stop"
    } else {
        "the deadline passed; the agent is not connected, so it could not be asked to stop"
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

fn stopped(row: Task, message: &'static str) -> Task {
    Task {
        cancel: CancelState::Stopped,
        ..over(row, TaskState::Cancelled, Code::Cancelled, message)
    }
}

fn over(row: Task, state: TaskState, code: Code, message: &'static str) -> Task {
    Task {
        state,
        outcome: Some(Outcome::problem(code, message)),
        ..row
    }
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
    let state = match outcome {
        Outcome::Success(_) => TaskState::Succeeded,
        Outcome::Problem(problem) => match problem.code {
            Code::Cancelled => TaskState::Cancelled,
            Code::DeadlineExceeded => TaskState::Expired,
            _ => TaskState::Failed,
        },
    };
    let cancel = match (row.cancel, state) {
        (CancelState::None, _) => CancelState::None,
        (_, TaskState::Cancelled) => CancelState::Stopped,
        _ => CancelState::Acked,
    };
    Task {
        state,
        cancel,
        outcome: Some(outcome.clone()),
        ..row
    }
}

#[cfg(test)]
mod tests;
