//! Tasks: their states and what may follow what.

use crate::id::{AgentId, TaskId, TenantId};
use crate::name::Name;
use crate::time::Timestamp;
use crate::word::words;

/// Largest value that travels inside a frame or a row; larger ones are blobs.
pub const MAX_INLINE_BYTES: usize = 256 * 1024;
/// Largest blob.
pub const MAX_BLOB_BYTES: u64 = 64 * 1024 * 1024;
/// Tries of an idempotent capability, the first included.
pub const MAX_ATTEMPTS: u32 = 3;

/// A value, inline or named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// UTF-8 JSON, at most [`MAX_INLINE_BYTES`].
    Json(Vec<u8>),
    Blob(BlobRef),
}

/// A stored value: digest, size and media type.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BlobRef {
    pub digest: String,
    pub size_bytes: u64,
    pub media_type: String,
}

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
    /// W3C trace context and conversation ids, as JSON.
    pub context_json: String,
    /// The outcome as JSON, once there is one.
    pub outcome_json: Option<String>,
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

    /// Whether a task may go from here to `next`. Ends are final.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Queued => !matches!(next, Self::Queued | Self::Running | Self::Suspect),
            Self::Dispatched => !matches!(next, Self::Dispatched),
            Self::Running => !matches!(next, Self::Dispatched | Self::Running),
            Self::Suspect => !matches!(next, Self::Dispatched | Self::Suspect),
            _ => false,
        }
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
    fn ends_are_final() {
        for end in TaskState::ALL.iter().copied().filter(|s| s.is_terminal()) {
            assert!(
                TaskState::ALL
                    .iter()
                    .copied()
                    .all(|next| !end.may_become(next)),
                "{end}"
            );
        }
    }

    #[test]
    fn a_task_is_never_leased_without_being_dispatched() {
        assert!(!TaskState::Queued.may_become(TaskState::Running));
        assert!(TaskState::Dispatched.may_become(TaskState::Running));
        assert!(TaskState::Suspect.may_become(TaskState::Queued));
    }

    #[test]
    fn only_idempotent_tasks_are_tried_again_and_not_for_ever() {
        assert_eq!(after_loss(true, 1), AfterLoss::Retry);
        assert_eq!(after_loss(true, MAX_ATTEMPTS), AfterLoss::GiveUp);
        assert_eq!(after_loss(false, 1), AfterLoss::GiveUp);
    }
}
