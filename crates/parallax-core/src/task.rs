//! Tasks: their states, values and outcomes. What follows what is in [`transition`].

mod outcome;
pub mod transition;
mod value;

use crate::id::{AgentId, TaskId, TenantId};
use crate::name::Name;
use crate::time::Timestamp;
use crate::word::words;

pub use outcome::{
    CancelAck, Confidence, Evidence, MoreThanAll, Outcome, Partial, Ppm, Problem, Progress,
    Success, Usage,
};
pub use value::{Payload, TaskContext};

/// Largest value that travels inside a frame or a row; larger ones are blobs.
pub const MAX_INLINE_BYTES: usize = 256 * 1024;
/// Largest blob.
pub const MAX_BLOB_BYTES: u64 = 64 * 1024 * 1024;
/// Tries of an idempotent capability, the first included.
pub const MAX_ATTEMPTS: u32 = 3;

/// A durable task.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    pub tenant: TenantId,
    pub id: TaskId,
    /// Whom it is for: hosted or external, by name.
    pub agent_name: Name,
    /// The hosted agent's id; `None` for external agents.
    pub agent: Option<AgentId>,
    pub capability: String,
    pub input: Payload,
    pub idempotency_key: Option<String>,
    /// Tells a repeated request from a different one under the same key.
    pub request_hash: Vec<u8>,
    pub state: TaskState,
    pub cancel: CancelState,
    /// The attempt under way or the last one; 0 before the first dispatch.
    pub attempt: u32,
    /// The instance that the attempt was given to, and that instance's lease epoch.
    pub instance_uuid: Option<String>,
    pub context: TaskContext,
    /// How it ended, once it has.
    pub outcome: Option<Outcome>,
    pub caller: String,
    pub deadline: Option<Timestamp>,
    /// Not dispatched again before then.
    pub not_before: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

words! {
    /// Where a task is.
    pub enum TaskState("a task state") {
        /// Waits for an instance with credit.
        Queued = "queued",
        /// Sent, not yet accepted.
        Dispatched = "dispatched",
        /// Accepted: leased to the instance.
        Running = "running",
        /// The instance's connection dropped; its lease still runs.
        Suspect = "suspect",
        Succeeded = "succeeded",
        /// The agent failed it.
        Failed = "failed",
        Cancelled = "cancelled",
        /// The deadline passed.
        Expired = "expired",
        /// The instance is gone and the task may not be tried again.
        Lost = "lost",
    }
}

impl TaskState {
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired | Self::Lost
        )
    }

    /// Whether an instance may still be at work on it.
    #[must_use]
    pub const fn is_leased(self) -> bool {
        matches!(self, Self::Dispatched | Self::Running | Self::Suspect)
    }
}

words! {
    /// How far a cancel has come. An unacknowledged one stays visible.
    pub enum CancelState("a state of a cancel") {
        None = "none",
        Requested = "requested",
        /// The agent answered that it was too late, or that it does not know the task.
        Acked = "acked",
        /// The agent says that the work ended.
        Stopped = "stopped",
        /// The grace passed without an answer; the work may still go on.
        Unresolved = "unresolved",
    }
}

/// What becomes of a leased task whose instance's lease has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterLoss {
    /// Try again, as attempt n + 1.
    Retry,
    /// End it as [`TaskState::Lost`]: the work may have happened or not.
    GiveUp,
}

/// Decides on a task whose instance is gone. Only a capability that declares itself idempotent is
/// tried again, and at most [`MAX_ATTEMPTS`] times.
#[must_use]
pub fn after_loss(idempotent: bool, attempt: u32) -> AfterLoss {
    if idempotent && attempt < MAX_ATTEMPTS {
        AfterLoss::Retry
    } else {
        AfterLoss::GiveUp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_idempotent_tasks_are_tried_again_and_not_for_ever() {
        assert_eq!(after_loss(true, 1), AfterLoss::Retry);
        assert_eq!(after_loss(true, MAX_ATTEMPTS), AfterLoss::GiveUp);
        assert_eq!(after_loss(false, 1), AfterLoss::GiveUp);
    }
}
