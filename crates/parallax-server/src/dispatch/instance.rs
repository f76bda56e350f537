//! One agent instance: its lease, its credit, and what is in flight on it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parallax_core::error::Code;
use parallax_core::id::{AgentId, ConnectionId, KeyId, ReplicaId, TaskId};
use parallax_core::instance::{Capability, Sdk};
use parallax_core::task::transition::News;
use parallax_core::task::{CancelAck, CancelState, Outcome};
use parallax_core::time::Timestamp;
use parallax_proto::v1;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::call::{Call, DurableEvent, Sink};
use super::{MAX_ACKS, MAX_CREDIT, SlotId};

/// Who an instance is, by its credential and its Hello.
#[derive(Debug, Clone)]
pub struct Peer {
    pub uuid: String,
    /// Set for hosted agents.
    pub hosted: Option<(AgentId, ReplicaId)>,
    /// The key of an external agent.
    pub key: Option<KeyId>,
    pub sdk: Sdk,
    pub capabilities: Vec<Capability>,
    pub labels: BTreeMap<String, String>,
}

impl Peer {
    pub fn capability(&self, name: &str) -> Option<&Capability> {
        self.capabilities.iter().find(|c| c.name == name)
    }
}

/// The way down to a connected instance.
#[derive(Debug, Clone)]
pub struct Link {
    pub connection: ConnectionId,
    /// Boxed: a queue keeps room for some dozen frames as soon as it has held one, and most
    /// agents have one frame at a time.
    pub frames: mpsc::Sender<Result<Box<v1::AgentDown>, Status>>,
    /// Ends the session.
    pub closed: CancellationToken,
}

impl Link {
    /// Queues a frame. `false` when the peer does not read fast enough or is gone: the session
    /// then ends by itself and the lease decides what becomes of its tasks.
    pub fn send(&self, frame: v1::agent_down::Frame) -> bool {
        self.frames
            .try_send(Ok(Box::new(v1::AgentDown { frame: Some(frame) })))
            .is_ok()
    }

    /// Says goodbye and ends the session. The frame may be lost where the peer does not read; the
    /// end of the stream then speaks for itself.
    pub fn go_away(&self, reason: v1::goaway::Reason, message: impl Into<String>) {
        self.send(v1::agent_down::Frame::Goaway(v1::Goaway {
            reason: reason.into(),
            message: message.into(),
            reconnect_after_ms: 0,
        }));
        self.closed.cancel();
    }

    /// Tells the agent that its result was received (attached) or committed (durable).
    pub fn acknowledge(&self, task: v1::TaskRef) -> bool {
        self.send(v1::agent_down::Frame::ResultAck(v1::ResultAck {
            r#ref: Some(task),
        }))
    }
}

/// Whether anything is known of an instance right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    Connected,
    /// The connection dropped; the lease still runs.
    Suspect,
    Draining,
}

impl LeaseState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Suspect => "suspect",
            Self::Draining => "draining",
        }
    }
}

/// An instance with everything that its group's lock protects.
#[derive(Debug)]
pub(super) struct Instance {
    pub peer: Arc<Peer>,
    pub link: Option<Link>,
    pub lease_epoch: u64,
    /// The lease ends here unless a heartbeat renews it.
    pub lease_until: Instant,
    pub connected_at: Timestamp,
    pub credit: u32,
    pub draining: bool,
    /// Tasks that it was sent in all.
    pub given: u64,
    pub load_ppm: Option<u32>,
    pub in_flight: HashMap<TaskId, InFlight>,
    /// Durable tasks whose rows are being committed: their credit is taken, nothing was sent.
    pub reserved: HashMap<TaskId, Reserved>,
    /// Attached results that were received and not acknowledged yet: see [`Self::received`].
    pub acks: Vec<v1::TaskRef>,
}

/// A place that is set aside.
#[derive(Debug)]
pub(super) struct Reserved {
    pub capability: String,
    /// Somebody cancelled the task meanwhile: it is not to be sent.
    pub cancelled: bool,
}

/// A task that the instance was given.
#[derive(Debug)]
pub(super) struct InFlight {
    pub call: Arc<Call>,
    pub attempt: u32,
    pub sink: Sink,
    pub accepted: bool,
    /// The outcome of a durable task is here and not committed yet.
    pub committing: bool,
    /// The deadline of a durable task has passed, and its row is told so.
    pub expired: bool,
    pub idempotent: bool,
    pub cancel: CancelState,
    /// A connected agent was sent the request to stop.
    pub asked: bool,
    /// When an asked-for cancel counts as unresolved.
    pub cancel_due: Option<Instant>,
    pub last_partial: u64,
    /// It was begun under an earlier session, and no partial came since.
    pub resumed: bool,
    /// Bytes of partials that were received and not granted again.
    pub partial_bytes: u32,
}

impl InFlight {
    /// Ends as cancelled: the agent says, or shows, that the work stopped.
    pub(super) fn stopped(self) {
        if self.tell(News::CancelAcked(CancelAck::Stopped), None) {
            return;
        }
        let outcome = Outcome::problem(Code::Cancelled, "the work was cancelled");
        self.sink.deliver(&self.call, outcome);
    }

    /// Tells whoever owns the row, if the task is durable; whether it is.
    pub(super) fn tell(&self, news: News, from: Option<SlotId>) -> bool {
        let Sink::Durable(events) = &self.sink else {
            return false;
        };
        // The commit job lives as long as the server.
        drop(events.send(DurableEvent {
            call: Arc::clone(&self.call),
            attempt: self.attempt,
            news,
            from,
        }));
        true
    }

    pub(super) fn reference(&self) -> v1::TaskRef {
        reference(&self.call, self.attempt)
    }
}

pub(super) fn reference(call: &Call, attempt: u32) -> v1::TaskRef {
    v1::TaskRef {
        task_id: call.id.to_string(),
        attempt,
        run: String::new(),
        step: String::new(),
    }
}

impl Instance {
    /// Whether a task for `capability` may be sent now.
    pub(super) fn has_room_for(&self, capability: &str) -> bool {
        if self.draining || self.credit == 0 || self.link.is_none() {
            return false;
        }
        let Some(offered) = self.peer.capability(capability) else {
            return false;
        };
        if offered.max_concurrency == 0 {
            return true;
        }
        let busy = self
            .in_flight
            .values()
            .map(|t| t.call.capability.as_str())
            .chain(self.reserved.values().map(|r| r.capability.as_str()))
            .filter(|busy| *busy == capability)
            .count();
        busy < offered.max_concurrency as usize
    }

    /// Adds to the credit, up to what an instance may hold in all.
    pub(super) fn grant(&mut self, n: u32) {
        self.credit = self.credit.saturating_add(n).min(MAX_CREDIT);
    }

    /// Notes that an attached result was received. Its acknowledgement goes down with the next
    /// task or with others of its kind, for a write of its own costs as much as a task's.
    pub(super) fn received(&mut self, task: v1::TaskRef) {
        self.acks.push(task);
        if self.draining || self.acks.len() >= MAX_ACKS {
            self.acknowledge();
        }
    }

    /// Lets the agent drop the results that were received.
    pub(super) fn acknowledge(&mut self) {
        for task in self.acks.drain(..) {
            if let Some(link) = &self.link {
                link.acknowledge(task);
            }
        }
    }

    pub(super) fn lease_state(&self) -> LeaseState {
        match (&self.link, self.draining) {
            (None, _) => LeaseState::Suspect,
            (Some(_), true) => LeaseState::Draining,
            (Some(_), false) => LeaseState::Connected,
        }
    }
}

/// What the registry shows of an instance.
#[derive(Debug, Clone)]
pub struct InstanceView {
    pub agent_name: String,
    pub peer: Arc<Peer>,
    pub lease_epoch: u64,
    pub state: LeaseState,
    pub connected_at: Timestamp,
    pub lease_left: std::time::Duration,
    pub in_flight: u32,
    pub credit: u32,
    pub load_ppm: Option<u32>,
    /// Tasks whose cancel was asked for and never acknowledged.
    pub unresolved_cancels: u32,
}
