//! All instances of one agent name, and the calls that wait for them.

mod cancel;
mod membership;
mod reports;
mod state;

pub use cancel::CancelRequest;
pub(crate) use membership::{Joining, Restored};
pub(super) use cancel::ask_to_stop;
use state::{State, Waiting};

use std::sync::Arc;
use std::time::Duration;

use parallax_core::error::{Code, Error};
use parallax_core::id::{ReplicaId, TaskId, TenantId};
use parallax_core::name::Name;
use parallax_core::task::CancelState;
use parallax_core::time::Timestamp;
use parallax_proto::v1;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::call::{Call, Sink, problem};
use super::instance::{Instance, InstanceView, Peer};

/// Calls that may wait for one agent. Beyond this the caller is told at once, which is kinder
/// than a queue that no deadline can survive.
const MAX_WAITING: usize = 10_000;

/// Names an instance within its group; never reused.
pub type SlotId = u64;

/// The instances of one agent name of one tenant.
#[derive(Debug)]
pub struct Group {
    pub tenant: TenantId,
    pub name: Name,
    state: Mutex<State>,
}

/// A place on an instance that is set aside.
#[derive(Debug)]
pub struct Reservation {
    slot: SlotId,
    pub uuid: String,
}

/// A call that was not taken on; the sink comes back to the caller.
#[derive(Debug)]
pub struct Refused {
    pub error: Error,
    pub sink: Sink,
}

impl Group {
    pub fn new(tenant: TenantId, name: Name) -> Self {
        Self {
            tenant,
            name,
            state: Mutex::default(),
        }
    }

    /// Takes a call on: sends it to an instance with room, or lets it wait for one.
    ///
    /// # Errors
    /// Refuses when no instance is known, none offers the capability, or too many calls wait.
    pub fn submit(&self, call: Arc<Call>, attempt: u32, sink: Sink) -> Result<(), Box<Refused>> {
        let mut state = self.state.lock();
        let refuse = |code, message: String, sink| {
            Err(Box::new(Refused {
                error: Error::new(code, message),
                sink,
            }))
        };
        if state.instances.is_empty() {
            let message = format!("no instance of agent `{}` is connected", self.name);
            return refuse(Code::AgentUnavailable, message, sink);
        }
        if !state.offers(&call.capability) {
            let message = state.capability_unknown(&self.name, &call.capability);
            return refuse(Code::CapabilityUnknown, message, sink);
        }
        if state.waiting.len() >= MAX_WAITING {
            let message = format!("{MAX_WAITING} calls wait for agent `{}` already", self.name);
            return refuse(Code::ResourceExhausted, message, sink);
        }
        let waiting = Waiting {
            call,
            attempt,
            sink,
        };
        // Those that wait longer go first.
        if state.waiting.is_empty() {
            if let Err(waiting) = state.dispatch(waiting) {
                state.waiting.push_back(waiting);
            }
        } else {
            state.waiting.push_back(waiting);
        }
        Ok(())
    }

    /// Sets a place on an instance aside for a durable task, whose row names the instance before
    /// the task is sent.
    pub fn reserve(&self, capability: &str) -> Option<Reservation> {
        let mut state = self.state.lock();
        let slot = state.choose(capability)?;
        let instance = state.instances.get_mut(&slot)?;
        instance.credit -= 1;
        state.turn = slot;
        let instance = state.instances.get(&slot)?;
        Some(Reservation {
            slot,
            uuid: instance.peer.uuid.clone(),
        })
    }

    /// Sends the task that a place was reserved for. `false` when the instance has gone away in
    /// the meantime: it never received the task.
    pub fn send_reserved(
        &self,
        reservation: &Reservation,
        call: &Arc<Call>,
        attempt: u32,
        sink: Sink,
    ) -> bool {
        let mut state = self.state.lock();
        state
            .place(
                reservation.slot,
                &reservation.uuid,
                Waiting {
                    call: Arc::clone(call),
                    attempt,
                    sink,
                },
            )
            .is_ok()
    }

    /// Gives a reserved place back.
    pub fn release(&self, reservation: &Reservation, ceiling: u32) {
        self.grant(reservation.slot, 1, ceiling);
    }

    /// Whether the task was accepted, and whether its instance is connected; `None` when no
    /// instance holds it.
    pub fn live_state(&self, id: TaskId) -> Option<(bool, bool, CancelState)> {
        let state = self.state.lock();
        state.instances.values().find_map(|i| {
            i.in_flight
                .get(&id)
                .map(|e| (e.accepted, i.link.is_some(), e.cancel))
        })
    }

    /// The instances of a hosted replica that were connected before `ended`.
    pub fn slots_of_replica(&self, replica: ReplicaId, ended: Timestamp) -> Vec<SlotId> {
        let state = self.state.lock();
        let found = |i: &Instance| {
            i.peer.hosted.is_some_and(|(_, id)| id == replica) && i.connected_at <= ended
        };
        state
            .instances
            .iter()
            .filter(|(_, i)| found(i))
            .map(|(slot, _)| *slot)
            .collect()
    }

    /// Finds the instance of a hosted replica.
    pub fn slot_of_replica(&self, replica: ReplicaId) -> Option<SlotId> {
        let state = self.state.lock();
        let found = |i: &Instance| i.peer.hosted.is_some_and(|(_, id)| id == replica);
        state
            .instances
            .iter()
            .find(|(_, i)| found(i))
            .map(|(slot, _)| *slot)
    }

    /// Whether the replica's agent is connected.
    pub fn is_registered(&self, replica: ReplicaId) -> bool {
        let state = self.state.lock();
        let registered =
            |i: &Instance| i.link.is_some() && i.peer.hosted.is_some_and(|(_, id)| id == replica);
        state.instances.values().any(registered)
    }

    /// Sends the instance nothing further; answers how many tasks it still holds.
    pub fn drain(&self, slot: SlotId) -> usize {
        let mut state = self.state.lock();
        state.instances.get_mut(&slot).map_or(0, |instance| {
            instance.draining = true;
            instance.in_flight.len()
        })
    }

    /// Sends a frame to the instance, if it is connected.
    pub fn notify(&self, slot: SlotId, frame: v1::agent_down::Frame) -> bool {
        let state = self.state.lock();
        let link = state.instances.get(&slot).and_then(|i| i.link.as_ref());
        link.is_some_and(|link| link.send(frame))
    }

    /// Passes an answer on to a running task. `false` when it runs nowhere that is connected.
    pub fn input(&self, id: TaskId, input_id: String, value: v1::Payload) -> bool {
        let state = self.state.lock();
        for instance in state.instances.values() {
            if let (Some(entry), Some(link)) = (instance.in_flight.get(&id), &instance.link) {
                let frame = v1::Input {
                    r#ref: Some(entry.reference()),
                    id: input_id,
                    value: Some(value),
                };
                return link.send(v1::agent_down::Frame::Input(frame));
            }
        }
        false
    }

    /// How many tasks the instance holds.
    pub fn in_flight(&self, slot: SlotId) -> usize {
        self.state
            .lock()
            .instances
            .get(&slot)
            .map_or(0, |i| i.in_flight.len())
    }

    /// How many tasks the instance holds, and how many it was given in all.
    pub fn load(&self, slot: SlotId) -> (u32, u64) {
        let state = self.state.lock();
        state.instances.get(&slot).map_or((0, 0), |i| {
            (
                u32::try_from(i.in_flight.len()).unwrap_or(u32::MAX),
                i.given,
            )
        })
    }

    /// Who the instance is.
    pub fn peer(&self, slot: SlotId) -> Option<Arc<Peer>> {
        self.state
            .lock()
            .instances
            .get(&slot)
            .map(|i| Arc::clone(&i.peer))
    }

    /// Whether the instance holds this attempt: it may then move the task's blobs.
    pub fn holds(&self, slot: SlotId, id: TaskId, attempt: u32) -> bool {
        let state = self.state.lock();
        let entry = state
            .instances
            .get(&slot)
            .and_then(|i| i.in_flight.get(&id));
        entry.is_some_and(|e| e.attempt == attempt)
    }

    /// Whether the replica holds the task, and with which input.
    pub fn task_of_replica(
        &self,
        id: TaskId,
        allowed: impl Fn(&Peer) -> bool,
    ) -> Option<Arc<Call>> {
        let state = self.state.lock();
        state
            .instances
            .values()
            .filter(|i| allowed(&i.peer))
            .find_map(|i| i.in_flight.get(&id).map(|e| Arc::clone(&e.call)))
    }

    pub fn views(&self, now: Instant) -> Vec<InstanceView> {
        let state = self.state.lock();
        state
            .instances
            .values()
            .filter(|i| !i.peer.capabilities.is_empty() || i.link.is_some())
            .map(|i| view(&self.name, i, now))
            .collect()
    }

    /// The number of instances and of waiting calls.
    pub fn size(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.instances.len(), state.waiting.len())
    }

    pub(super) fn sweep(&self, now: Instant, grace: Duration) -> Vec<SlotId> {
        let mut state = self.state.lock();
        super::sweep::waiting(
            &mut state.waiting,
            now,
            |w| (&w.call, &w.sink),
            |w| {
                let error = Error::new(
                    Code::DeadlineExceeded,
                    "the deadline passed while the call waited for an instance with room",
                );
                w.sink.deliver(&w.call, problem(&error));
            },
        );
        for instance in state.instances.values_mut() {
            super::sweep::in_flight(instance, now, grace);
        }
        state
            .instances
            .iter()
            .filter(|(_, i)| i.lease_until <= now)
            .map(|(slot, _)| *slot)
            .collect()
    }
}

fn view(name: &Name, instance: &Instance, now: Instant) -> InstanceView {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    InstanceView {
        agent_name: name.to_string(),
        peer: Arc::clone(&instance.peer),
        lease_epoch: instance.lease_epoch,
        state: instance.lease_state(),
        connected_at: instance.connected_at,
        lease_left: instance.lease_until.saturating_duration_since(now),
        in_flight: count(instance.in_flight.len()),
        credit: instance.credit,
        load_ppm: instance.load_ppm,
        unresolved_cancels: count(
            instance
                .in_flight
                .values()
                .filter(|e| e.cancel == CancelState::Unresolved)
                .count(),
        ),
    }
}
