//! A call to an agent and where its outcome goes.

use std::sync::Arc;

use parallax_core::error::Error;
use parallax_core::id::{TaskId, TenantId};
use parallax_core::name::Name;
use parallax_proto::v1;
use parallax_telemetry::trace::CallSpan;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::group::SlotId;
use super::live::Live;

/// How a call ended.
pub type Outcome = v1::task_outcome::Outcome;

/// What was asked for. Shared by all attempts.
#[derive(Debug)]
pub struct Call {
    pub tenant: TenantId,
    pub id: TaskId,
    pub agent: Name,
    pub capability: String,
    pub input: v1::Payload,
    /// Stable across attempts.
    pub idempotency_key: String,
    pub deadline: Option<CallDeadline>,
    pub context: CallContext,
    /// Ends with the call.
    pub span: CallSpan,
}

impl Call {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline.at <= now)
    }
}

/// The end of a call's time, on the steady clock and as the agent is told.
#[derive(Debug, Clone, Copy)]
pub struct CallDeadline {
    pub at: Instant,
    pub unix_ms: i64,
}

/// What travels along: see `TaskContext` in the contract.
pub type CallContext = v1::TaskContext;

/// Something that happened before the end.
#[derive(Debug, Clone)]
pub enum Update {
    Progress(v1::TaskProgress),
    Partial(v1::TaskPartial),
}

/// Where a call's outcome goes. Delivered once.
#[derive(Debug)]
pub enum Sink {
    /// One waiting caller.
    Reply(oneshot::Sender<Outcome>),
    /// One of many calls on a caller's stream. The permit is a reserved place, so that an outcome
    /// can neither block nor be dropped.
    Stream {
        call_id: u64,
        permit: mpsc::OwnedPermit<v1::InvokeDown>,
        updates: Option<mpsc::WeakSender<v1::InvokeDown>>,
    },
    /// A durable task: whoever owns the row decides what the outcome means.
    Durable(mpsc::UnboundedSender<DurableEvent>),
    /// The caller has gone away.
    Nobody,
}

/// News of a durable task's attempt. At most `MAX_CREDIT` attempts are open per instance, and each
/// has one of every kind at most, which bounds the queue they travel on.
#[derive(Debug)]
pub struct DurableEvent {
    pub call: Arc<Call>,
    pub attempt: u32,
    pub kind: DurableEventKind,
}

#[derive(Debug)]
pub enum DurableEventKind {
    /// To be committed, and then confirmed with [`super::Group::committed`].
    Ended {
        outcome: Outcome,
        idempotent: bool,
        /// The session that brought it.
        from: SlotId,
    },
    /// The deadline passed; the agent was asked to stop.
    Expired,
    /// The instance is gone; nothing is known of the work.
    InstanceLost {
        idempotent: bool,
    },
    /// The instance never had the task: it may be dispatched again in any case.
    NeverReceived,
    /// Cancelled between its commit and the moment it would have been sent.
    Withdrawn,
    CancelAcked(v1::cancel_ack::Outcome),
    CancelUnresolved,
}

impl Sink {
    /// Hands the outcome over. A caller that went away in the meantime is no error.
    pub fn deliver(self, call: &Arc<Call>, outcome: Outcome) {
        match self {
            Self::Reply(reply) => drop(reply.send(outcome)),
            Self::Stream {
                call_id, permit, ..
            } => {
                permit.send(v1::InvokeDown {
                    call_id,
                    task_id: call.id.to_string(),
                    event: Some(v1::invoke_down::Event::Outcome(v1::TaskOutcome {
                        outcome: Some(outcome),
                    })),
                });
            }
            // A durable task's outcome goes through its row: see `Group::ended`.
            Self::Durable(_) => {}
            Self::Nobody => {}
        }
    }

    /// Passes an update on, where anybody asked for it and has room. Updates may be dropped:
    /// partials are numbered, so that a reader sees the hole. Those of a durable task go to whoever
    /// watches it.
    pub(super) fn update(&self, call: &Arc<Call>, update: Update, live: &Live) {
        match self {
            Self::Stream {
                call_id,
                updates: Some(updates),
                ..
            } => {
                let event = match update {
                    Update::Progress(progress) => v1::invoke_down::Event::Progress(progress),
                    Update::Partial(partial) => v1::invoke_down::Event::Partial(partial),
                };
                let frame = v1::InvokeDown {
                    call_id: *call_id,
                    task_id: call.id.to_string(),
                    event: Some(event),
                };
                if let Some(updates) = updates.upgrade() {
                    drop(updates.try_send(frame));
                }
            }
            Self::Durable(_) => live.tell(call.id, update),
            Self::Stream { .. } | Self::Reply(_) | Self::Nobody => {}
        }
    }

    /// Whether the caller has stopped waiting.
    pub fn is_abandoned(&self) -> bool {
        match self {
            Self::Reply(reply) => reply.is_closed(),
            Self::Nobody => true,
            Self::Stream { .. } | Self::Durable(_) => false,
        }
    }
}

/// An outcome that says what went wrong.
pub fn problem(error: &Error) -> Outcome {
    Outcome::Problem(v1::TaskProblem {
        code: error.code.as_str().to_owned(),
        message: error.message.to_string(),
        retryable: error.code.is_retryable(),
        agent_code: String::new(),
        retry_after_ms: 0,
    })
}
