//! A call to an agent and where its outcome goes.

use std::sync::Arc;

use parallax_core::id::{TaskId, TenantId};
use parallax_core::name::Name;
use parallax_core::task::transition::News;
use parallax_core::task::{Outcome, Partial, Payload, Progress, TaskContext};
use parallax_telemetry::trace::CallSpan;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::group::SlotId;
use super::live::Live;

/// What was asked for. Shared by all attempts.
#[derive(Debug)]
pub struct Call {
    pub tenant: TenantId,
    pub id: TaskId,
    pub agent: Name,
    pub capability: String,
    pub input: Payload,
    /// Stable across attempts.
    pub idempotency_key: String,
    pub deadline: Option<CallDeadline>,
    pub context: TaskContext,
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

/// Something that happened before the end.
#[derive(Debug, Clone)]
pub enum Update {
    Progress(Progress),
    Partial(Partial),
}

/// What a caller with many calls on one stream hears of one of them.
#[derive(Debug)]
pub struct CallNews {
    /// The caller's own number of the call.
    pub call_id: u64,
    /// `None` for a call that was refused before it became one.
    pub task: Option<TaskId>,
    /// So many updates were dropped just before, because they were not read in time.
    pub skipped: u64,
    pub event: CallEvent,
}

#[derive(Debug)]
pub enum CallEvent {
    Update(Update),
    Outcome(Outcome),
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
        permit: mpsc::OwnedPermit<CallNews>,
        updates: Option<Updates>,
    },
    /// A durable task: whoever owns the row decides what the outcome means.
    Durable(mpsc::UnboundedSender<DurableEvent>),
    /// The caller has gone away.
    Nobody,
}

/// The way of updates to a caller that asked for them.
#[derive(Debug)]
pub struct Updates {
    sender: mpsc::WeakSender<CallNews>,
    /// Dropped since the last that went through.
    skipped: u64,
}

impl Updates {
    pub fn to(sender: &mpsc::Sender<CallNews>) -> Self {
        Self {
            sender: sender.downgrade(),
            skipped: 0,
        }
    }

    fn send(&mut self, call_id: u64, task: TaskId, update: Update) {
        // Where the caller has gone away, nobody is left who could miss anything.
        let Some(sender) = self.sender.upgrade() else {
            return;
        };
        let news = CallNews {
            call_id,
            task: Some(task),
            skipped: self.skipped,
            event: CallEvent::Update(update),
        };
        match sender.try_send(news) {
            Ok(()) => self.skipped = 0,
            Err(_) => self.skipped += 1,
        }
    }
}

/// News of a durable task's attempt. At most `MAX_CREDIT` attempts are open per instance, and each
/// has one of every kind at most, which bounds the queue they travel on.
#[derive(Debug)]
pub struct DurableEvent {
    pub call: Arc<Call>,
    pub attempt: u32,
    pub news: News,
    /// The session that brought an outcome, which is to be confirmed with
    /// [`super::Group::committed`] once it is committed.
    pub from: Option<SlotId>,
}

impl Sink {
    /// Hands the outcome over. A caller that went away in the meantime is no error.
    pub fn deliver(self, call: &Arc<Call>, outcome: Outcome) {
        match self {
            Self::Reply(reply) => drop(reply.send(outcome)),
            Self::Stream {
                call_id,
                permit,
                updates,
            } => {
                permit.send(CallNews {
                    call_id,
                    task: Some(call.id),
                    skipped: updates.map_or(0, |updates| updates.skipped),
                    event: CallEvent::Outcome(outcome),
                });
            }
            // A durable task's outcome goes through its row: see `Group::ended`.
            Self::Durable(_) => {}
            Self::Nobody => {}
        }
    }

    /// Passes an update on, where anybody asked for it and has room; whoever has none hears how many
    /// it missed. Those of a durable task go to whoever watches it.
    pub(super) fn update(&mut self, call: &Arc<Call>, update: Update, live: &Live) {
        match self {
            Self::Stream {
                call_id,
                updates: Some(updates),
                ..
            } => updates.send(*call_id, call.id, update),
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
