//! All instances of one agent name, and the calls that wait for them.

mod cancel;
mod membership;
mod reports;
mod reserve;
mod state;

pub use cancel::CancelRequest;
pub(super) use cancel::ask_to_stop;
pub(crate) use membership::{Joining, Restored};
pub use reserve::{Placed, Reservation};
use state::State;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parallax_core::error::{Code, Error};
use parallax_core::id::{AgentId, ReplicaId, TaskId, TenantId};
use parallax_core::name::Name;
use parallax_core::task::{CancelState, Outcome, Payload};
use parallax_core::time::Timestamp;
use parallax_proto::v1;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::call::{Call, Sink};
use super::instance::{Instance, InstanceView, Peer};
use super::live::Live;
use super::queue::Waiting;

/// Calls that may wait for one agent. Beyond this the caller is told at once, which is kinder
/// than a queue that no deadline can survive.
const MAX_WAITING: usize = 10_000;

/// Names one session of an instance within its group; never reused.
pub type SlotId = u64;

/// The instances of one agent name of one tenant.
#[derive(Debug)]
pub struct Group {
    pub tenant: TenantId,
    pub name: Name,
    state: Mutex<State>,
    /// Whether durable tasks wait in the store for room here.
    backlog: AtomicBool,
    live: Arc<Live>,
}

/// A call that was not taken on; the sink comes back to the caller.
#[derive(Debug)]
pub struct Refused {
    pub error: Error,
    pub sink: Sink,
}

impl Group {
    pub fn new(tenant: TenantId, name: Name, live: Arc<Live>) -> Self {
        Self {
            tenant,
            name,
            state: Mutex::default(),
            backlog: AtomicBool::new(false),
            live,
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
        // Whoever waits for the same capability found no room, or would have been sent: nobody is
        // overtaken.
        if let Err(waiting) = state.dispatch(waiting) {
            state.waiting.push_back(waiting);
        }
        Ok(())
    }

    /// Whether the task was accepted, and whether its instance, `uuid`, is connected; `None` when
    /// that does not hold it.
    pub fn live_state(&self, id: TaskId, uuid: &str) -> Option<(bool, bool)> {
        let state = self.state.lock();
        let instance = state.instances.get(state.by_uuid.get(uuid)?)?;
        let accepted = match instance.in_flight.get(&id) {
            Some(entry) => entry.accepted,
            None => !instance.reserved.contains_key(&id).then_some(true)?,
        };
        Some((accepted, instance.link.is_some()))
    }

    /// The hosted agent behind this name, or `Some(None)` for an external one; `None` while no
    /// instance is connected that could tell.
    pub fn hosted_agent(&self) -> Option<Option<AgentId>> {
        let state = self.state.lock();
        let connected = state.instances.values().find(|i| i.link.is_some())?;
        Some(connected.peer.hosted.map(|(agent, _)| agent))
    }

    /// The sessions of a hosted replica that began before `ended`, or all.
    pub fn slots_of_replica(&self, replica: ReplicaId, ended: Option<Timestamp>) -> Vec<SlotId> {
        let state = self.state.lock();
        let found = |i: &Instance| {
            i.peer.hosted.is_some_and(|(_, id)| id == replica)
                && ended.is_none_or(|ended| i.connected_at <= ended)
        };
        state
            .instances
            .iter()
            .filter(|(_, i)| found(i))
            .map(|(slot, _)| *slot)
            .collect()
    }

    /// Whether the replica's agent is connected.
    pub fn is_registered(&self, replica: ReplicaId) -> bool {
        let state = self.state.lock();
        let registered =
            |i: &Instance| i.link.is_some() && i.peer.hosted.is_some_and(|(_, id)| id == replica);
        state.instances.values().any(registered)
    }

    /// Whether the replica's agent has tasks in hand, or may still be given one.
    pub fn is_busy(&self, replica: ReplicaId) -> bool {
        let state = self.state.lock();
        let of_replica = |i: &&Instance| i.peer.hosted.is_some_and(|(_, id)| id == replica);
        let mut instances = state.instances.values().filter(of_replica);
        instances.any(|i| !i.draining || !i.in_flight.is_empty() || !i.reserved.is_empty())
    }

    /// Sends the replica's agent nothing further; answers how many tasks it still holds.
    pub fn drain_replica(&self, replica: ReplicaId) -> usize {
        let slots = self.slots_of_replica(replica, None);
        slots.into_iter().map(|slot| self.drain(slot)).sum()
    }

    /// Sends the instance nothing further; answers how many tasks it still holds.
    pub fn drain(&self, slot: SlotId) -> usize {
        let mut state = self.state.lock();
        state.instances.get_mut(&slot).map_or(0, |instance| {
            instance.draining = true;
            instance.acknowledge();
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
    pub fn input(&self, id: TaskId, input_id: String, value: Payload) -> bool {
        let state = self.state.lock();
        for instance in state.instances.values() {
            if let (Some(entry), Some(link)) = (instance.in_flight.get(&id), &instance.link) {
                let frame = v1::Input {
                    r#ref: Some(entry.reference()),
                    id: input_id,
                    value: Some(value.into()),
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

    /// The call behind a task that an instance which `allowed` accepts holds.
    pub fn held_by(&self, id: TaskId, allowed: impl Fn(&Peer) -> bool) -> Option<Arc<Call>> {
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

    pub(crate) fn sweep(&self, now: Instant, grace: Duration) -> Vec<SlotId> {
        let mut state = self.state.lock();
        for over in state.waiting.take_over(now) {
            let message = "the deadline passed while the call waited for an instance with room";
            let outcome = Outcome::problem(Code::DeadlineExceeded, message);
            over.sink.deliver(&over.call, outcome);
        }
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
