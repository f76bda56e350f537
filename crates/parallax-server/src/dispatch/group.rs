//! All instances of one agent name, and the calls that wait for them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use parallax_core::error::{Code, Error};
use parallax_core::id::{ReplicaId, SessionId, TaskId, TenantId};
use parallax_core::name::Name;
use parallax_core::time::Timestamp;
use parallax_core::task::{AfterLoss, CancelState, after_loss};
use parallax_proto::v1;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::call::{Call, DurableEvent, DurableEventKind, Sink, Update, problem};
use super::instance::{InFlight, Instance, InstanceView, Link, Peer, reference};

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

#[derive(Debug, Default)]
struct State {
    instances: BTreeMap<SlotId, Instance>,
    by_uuid: HashMap<String, SlotId>,
    waiting: VecDeque<Waiting>,
    /// The slot that was given a task last.
    turn: SlotId,
    next_slot: SlotId,
}

#[derive(Debug)]
struct Waiting {
    call: Arc<Call>,
    attempt: u32,
    sink: Sink,
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

/// What became of a request to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelRequest {
    /// It had not been sent to anybody: it is over.
    Withdrawn,
    /// The agent was asked.
    Asked,
    /// Not in this group (any more).
    Unknown,
}

/// What a new session finds.
#[derive(Debug)]
pub struct Joined {
    pub slot: SlotId,
    pub verdicts: Vec<v1::Verdict>,
    /// The session of the same instance that this one replaces.
    pub superseded: Option<Link>,
}

/// What a new session brings.
#[derive(Debug)]
pub struct Joining {
    pub peer: Peer,
    pub link: Link,
    pub lease_epoch: u64,
    pub lease_until: Instant,
    pub connected_at: Timestamp,
    pub credit: u32,
    pub draining: bool,
    pub inventory: Vec<v1::InventoryItem>,
}

/// A durable task that an instance was given before the server was started.
#[derive(Debug)]
pub struct Restored {
    pub uuid: String,
    pub call: Arc<Call>,
    pub attempt: u32,
    pub sink: Sink,
    pub accepted: bool,
    pub idempotent: bool,
    pub cancel: CancelState,
}

impl Group {
    pub fn new(tenant: TenantId, name: Name) -> Self {
        Self { tenant, name, state: Mutex::default() }
    }

    /// Takes a call on: sends it to an instance with room, or lets it wait for one.
    ///
    /// # Errors
    /// Refuses when no instance is known, none offers the capability, or too many calls wait.
    pub fn submit(&self, call: Arc<Call>, attempt: u32, sink: Sink) -> Result<(), Box<Refused>> {
        let mut state = self.state.lock();
        let refuse = |code, message: String, sink| Err(Box::new(Refused { error: Error::new(code, message), sink }));
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
        let waiting = Waiting { call, attempt, sink };
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
        Some(Reservation { slot, uuid: instance.peer.uuid.clone() })
    }

    /// Sends the task that a place was reserved for. `false` when the instance has gone away in
    /// the meantime: it never received the task.
    pub fn send_reserved(&self, reservation: &Reservation, call: &Arc<Call>, attempt: u32, sink: Sink) -> bool {
        let mut state = self.state.lock();
        state.place(reservation.slot, &reservation.uuid, Waiting { call: Arc::clone(call), attempt, sink }).is_ok()
    }

    /// Gives a reserved place back.
    pub fn release(&self, reservation: &Reservation, ceiling: u32) {
        self.grant(reservation.slot, 1, ceiling);
    }

    /// Whether the task was accepted, and whether its instance is connected; `None` when no
    /// instance holds it.
    pub fn live_state(&self, id: TaskId) -> Option<(bool, bool, CancelState)> {
        let state = self.state.lock();
        state.instances.values().find_map(|i| i.in_flight.get(&id).map(|e| (e.accepted, i.link.is_some(), e.cancel)))
    }

    /// Adds a session, new or reconnecting, and decides on its inventory.
    pub fn join(&self, joining: Joining) -> Joined {
        let mut state = self.state.lock();
        let slot = state.slot_of(&joining.peer.uuid);
        let old = state.instances.remove(&slot);
        let (superseded, mut in_flight, given) = match old {
            Some(instance) => (instance.link, instance.in_flight, instance.given),
            None => (None, HashMap::new(), 0),
        };
        let verdicts = joining.inventory.iter().map(|item| verdict(item, &in_flight)).collect();
        let never_received = take_unlisted(&mut in_flight, &joining.inventory);
        let instance = Instance {
            peer: Arc::new(joining.peer),
            link: Some(joining.link),
            lease_epoch: joining.lease_epoch,
            lease_until: joining.lease_until,
            connected_at: joining.connected_at,
            credit: joining.credit,
            draining: joining.draining,
            given,
            load_ppm: None,
            in_flight,
        };
        state.instances.insert(slot, instance);
        for task in never_received {
            state.again(task);
        }
        Joined { slot, verdicts, superseded }
    }

    /// Lets the session's calls flow; to be called once its Welcome is on the way.
    pub fn ready(&self) {
        self.state.lock().pump();
    }

    /// Restores a durable task under the lease of an instance that may come back.
    pub fn restore(&self, restored: Restored, lease_until: Instant, now: Timestamp) {
        let mut state = self.state.lock();
        let slot = state.slot_of(&restored.uuid);
        let instance = state.instances.entry(slot).or_insert_with(|| Instance {
            peer: Arc::new(Peer {
                uuid: restored.uuid.clone(),
                hosted: None,
                sdk: v1::Sdk::default(),
                capabilities: Vec::new(),
                labels: BTreeMap::new(),
            }),
            link: None,
            lease_epoch: 0,
            lease_until,
            connected_at: now,
            credit: 0,
            draining: false,
            given: 0,
            load_ppm: None,
            in_flight: HashMap::new(),
        });
        let task = InFlight {
            call: restored.call,
            attempt: restored.attempt,
            sink: restored.sink,
            accepted: restored.accepted,
            committing: false,
            idempotent: restored.idempotent,
            cancel: restored.cancel,
            cancel_due: None,
            last_partial: 0,
            partial_bytes: 0,
        };
        instance.in_flight.insert(task.call.id, task);
    }

    /// The session's connection ended; its lease runs on, unless it holds nothing and drains.
    pub fn leave(&self, slot: SlotId, session: SessionId) -> bool {
        let mut state = self.state.lock();
        let Some(instance) = state.instances.get_mut(&slot) else { return false };
        if instance.link.as_ref().is_none_or(|link| link.session != session) {
            return false;
        }
        instance.link = None;
        instance.credit = 0;
        if instance.in_flight.is_empty() {
            state.remove(slot);
            state.refuse_waiting_if_empty(&self.name);
            return true;
        }
        false
    }

    /// The instance is gone for certain: its lease ended, or its process was seen to end.
    pub fn lose(&self, slot: SlotId) {
        let mut state = self.state.lock();
        if let Some(instance) = state.remove(slot) {
            for task in instance.in_flight.into_values().filter(|task| !task.committing) {
                state.lost(task, &self.name);
            }
            state.pump();
            state.refuse_waiting_if_empty(&self.name);
        }
    }

    /// The instances of a hosted replica that were connected before `ended`.
    pub fn slots_of_replica(&self, replica: ReplicaId, ended: Timestamp) -> Vec<SlotId> {
        let state = self.state.lock();
        let found = |i: &Instance| {
            i.peer.hosted.is_some_and(|(_, id)| id == replica) && i.connected_at <= ended
        };
        state.instances.iter().filter(|(_, i)| found(i)).map(|(slot, _)| *slot).collect()
    }

    /// Finds the instance of a hosted replica.
    pub fn slot_of_replica(&self, replica: ReplicaId) -> Option<SlotId> {
        let state = self.state.lock();
        let found = |i: &Instance| i.peer.hosted.is_some_and(|(_, id)| id == replica);
        state.instances.iter().find(|(_, i)| found(i)).map(|(slot, _)| *slot)
    }

    /// Whether the replica's agent is connected.
    pub fn is_registered(&self, replica: ReplicaId) -> bool {
        let state = self.state.lock();
        let registered = |i: &Instance| i.link.is_some() && i.peer.hosted.is_some_and(|(_, id)| id == replica);
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

    /// Grants credit, up to `ceiling` in all.
    pub fn grant(&self, slot: SlotId, n: u32, ceiling: u32) {
        let mut state = self.state.lock();
        if let Some(instance) = state.instances.get_mut(&slot) {
            instance.credit = instance.credit.saturating_add(n).min(ceiling);
        }
        state.pump();
    }

    /// Renews the lease.
    pub fn renew(&self, slot: SlotId, until: Instant, load_ppm: Option<u32>) {
        if let Some(instance) = self.state.lock().instances.get_mut(&slot) {
            instance.lease_until = until;
            instance.load_ppm = load_ppm.or(instance.load_ppm);
        }
    }

    /// The instance took the task on.
    pub fn accepted(&self, slot: SlotId, task: TaskId, attempt: u32) {
        self.with_task(slot, task, attempt, |entry| {
            if !entry.accepted {
                entry.accepted = true;
                entry.sink.update(&entry.call, attempt, Update::Accepted);
            }
        });
    }

    pub fn progress(&self, slot: SlotId, task: TaskId, attempt: u32, progress: v1::TaskProgress) {
        self.with_task(slot, task, attempt, |entry| {
            entry.sink.update(&entry.call, attempt, Update::Progress(progress));
        });
    }

    /// Passes a partial on, unless it was seen before. Once half of `window` is used up, the
    /// bytes are granted again.
    pub fn partial(&self, slot: SlotId, task: TaskId, attempt: u32, partial: v1::TaskPartial, window: u32) {
        let mut grant = None;
        self.with_task(slot, task, attempt, |entry| {
            let bytes = u32::try_from(partial.chunk.len()).unwrap_or(u32::MAX);
            entry.partial_bytes = entry.partial_bytes.saturating_add(bytes);
            if entry.partial_bytes >= window / 2 {
                let bytes = std::mem::take(&mut entry.partial_bytes);
                grant = Some(v1::PartialCredit { r#ref: Some(entry.reference()), bytes });
            }
            if partial.seq > entry.last_partial {
                entry.last_partial = partial.seq;
                entry.sink.update(&entry.call, attempt, Update::Partial(partial));
            }
        });
        if let Some(grant) = grant {
            self.notify(slot, v1::agent_down::Frame::PartialCredit(grant));
        }
    }

    /// Ends a task with the agent's outcome and returns the credit that came with it. A result
    /// for an attempt that is not (or no longer) wanted is acknowledged, so that the agent drops it.
    pub fn ended(&self, slot: SlotId, task: v1::TaskRef, id: TaskId, outcome: super::Outcome, credit: (u32, u32)) {
        let mut state = self.state.lock();
        let Some(instance) = state.instances.get_mut(&slot) else { return };
        instance.credit = instance.credit.saturating_add(credit.0).min(credit.1);
        let entry = instance.in_flight.get_mut(&id).filter(|entry| entry.attempt == task.attempt);
        match entry {
            Some(InFlight { call, attempt, sink: Sink::Durable(events), committing, idempotent, .. }) => {
                *committing = true;
                let kind = DurableEventKind::Ended { outcome, idempotent: *idempotent };
                let event = DurableEvent { call: Arc::clone(call), attempt: *attempt, kind };
                drop(events.send(event));
            }
            Some(_) => {
                if let Some(entry) = instance.in_flight.remove(&id) {
                    entry.sink.deliver(&entry.call, outcome);
                }
                instance.acknowledge(task);
            }
            None => instance.acknowledge(task),
        }
        state.pump();
    }

    /// The outcome of a durable task is committed: the agent may drop it.
    pub fn committed(&self, id: TaskId, attempt: u32) {
        let mut state = self.state.lock();
        for instance in state.instances.values_mut() {
            if instance.in_flight.get(&id).is_some_and(|entry| entry.attempt == attempt) {
                if let Some(entry) = instance.in_flight.remove(&id) {
                    instance.acknowledge(entry.reference());
                }
                break;
            }
        }
        state.pump();
    }

    /// The agent answered a cancel.
    pub fn cancel_acked(&self, slot: SlotId, id: TaskId, attempt: u32, outcome: v1::cancel_ack::Outcome) {
        let mut state = self.state.lock();
        let Some(instance) = state.instances.get_mut(&slot) else { return };
        let Some(entry) = instance.in_flight.get_mut(&id).filter(|e| e.attempt == attempt) else { return };
        entry.cancel_due = None;
        if let Sink::Durable(events) = &entry.sink {
            let kind = DurableEventKind::CancelAcked(outcome);
            drop(events.send(DurableEvent { call: Arc::clone(&entry.call), attempt, kind }));
        }
        match outcome {
            v1::cancel_ack::Outcome::TooLate => entry.cancel = CancelState::Acked,
            _ => {
                if let Some(entry) = instance.in_flight.remove(&id) {
                    if !matches!(entry.sink, Sink::Durable(_)) {
                        let error = Error::new(Code::Cancelled, "the work was cancelled");
                        entry.sink.deliver(&entry.call, problem(&error));
                    }
                }
            }
        }
        state.pump();
    }

    /// Cancels a call of this group: withdraws it, or asks the agent to stop within `grace`.
    pub fn cancel(&self, id: TaskId, reason: &str, grace: Duration, now: Instant) -> CancelRequest {
        let mut state = self.state.lock();
        if let Some(at) = state.waiting.iter().position(|w| w.call.id == id) {
            if let Some(waiting) = state.waiting.remove(at) {
                let error = Error::new(Code::Cancelled, format!("cancelled before it was sent: {reason}"));
                waiting.sink.deliver(&waiting.call, problem(&error));
            }
            return CancelRequest::Withdrawn;
        }
        for instance in state.instances.values_mut() {
            if let Some(entry) = instance.in_flight.get_mut(&id) {
                ask_to_stop(entry, instance.link.as_ref(), reason, grace, now);
                return CancelRequest::Asked;
            }
        }
        CancelRequest::Unknown
    }

    /// Forgets whoever waits for the call; what runs is asked to stop.
    pub fn abandon(&self, id: TaskId, grace: Duration, now: Instant) {
        if self.cancel(id, "the caller went away", grace, now) == CancelRequest::Asked {
            let mut state = self.state.lock();
            for instance in state.instances.values_mut() {
                if let Some(entry) = instance.in_flight.get_mut(&id) {
                    entry.sink = Sink::Nobody;
                }
            }
        }
    }

    /// Passes an answer on to a running task. `false` when it runs nowhere that is connected.
    pub fn input(&self, id: TaskId, input_id: String, value: v1::Payload) -> bool {
        let state = self.state.lock();
        for instance in state.instances.values() {
            if let (Some(entry), Some(link)) = (instance.in_flight.get(&id), &instance.link) {
                let frame = v1::Input { r#ref: Some(entry.reference()), id: input_id, value: Some(value) };
                return link.send(v1::agent_down::Frame::Input(frame));
            }
        }
        false
    }

    /// Ends the lease of an instance whose session does not answer: says so to it, if it listens.
    pub fn expire(&self, slot: SlotId) {
        let link = self.state.lock().instances.get(&slot).and_then(|i| i.link.clone());
        if let Some(link) = link {
            link.go_away(v1::goaway::Reason::LeaseExpired, "no heartbeat arrived within the lease");
        }
        self.lose(slot);
    }

    /// How many tasks the instance holds.
    pub fn in_flight(&self, slot: SlotId) -> usize {
        self.state.lock().instances.get(&slot).map_or(0, |i| i.in_flight.len())
    }

    /// How many tasks the instance holds, and how many it was given in all.
    pub fn load(&self, slot: SlotId) -> (u32, u64) {
        let state = self.state.lock();
        state.instances.get(&slot).map_or((0, 0), |i| (u32::try_from(i.in_flight.len()).unwrap_or(u32::MAX), i.given))
    }

    /// Who the instance is.
    pub fn peer(&self, slot: SlotId) -> Option<Arc<Peer>> {
        self.state.lock().instances.get(&slot).map(|i| Arc::clone(&i.peer))
    }

    /// Whether the instance holds this attempt: it may then move the task's blobs.
    pub fn holds(&self, slot: SlotId, id: TaskId, attempt: u32) -> bool {
        let state = self.state.lock();
        let entry = state.instances.get(&slot).and_then(|i| i.in_flight.get(&id));
        entry.is_some_and(|e| e.attempt == attempt)
    }

    /// Whether the replica holds the task, and with which input.
    pub fn task_of_replica(&self, id: TaskId, allowed: impl Fn(&Peer) -> bool) -> Option<Arc<Call>> {
        let state = self.state.lock();
        state
            .instances
            .values()
            .filter(|i| allowed(&i.peer))
            .find_map(|i| i.in_flight.get(&id).map(|e| Arc::clone(&e.call)))
    }

    pub fn views(&self, now: Instant) -> Vec<InstanceView> {
        let state = self.state.lock();
        state.instances.values().filter(|i| !i.peer.capabilities.is_empty() || i.link.is_some()).map(|i| view(&self.name, i, now)).collect()
    }

    /// The number of instances and of waiting calls.
    pub fn size(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.instances.len(), state.waiting.len())
    }

    fn with_task(&self, slot: SlotId, id: TaskId, attempt: u32, act: impl FnOnce(&mut InFlight)) {
        let mut state = self.state.lock();
        let entry = state.instances.get_mut(&slot).and_then(|i| i.in_flight.get_mut(&id));
        if let Some(entry) = entry.filter(|e| e.attempt == attempt) {
            act(entry);
        }
    }

    pub(super) fn sweep(&self, now: Instant, grace: Duration) -> Vec<SlotId> {
        let mut state = self.state.lock();
        super::sweep::waiting(&mut state.waiting, now, |w| (&w.call, &w.sink), |w| {
            let error = Error::new(Code::DeadlineExceeded, "the deadline passed while the call waited for an instance with room");
            w.sink.deliver(&w.call, problem(&error));
        });
        for instance in state.instances.values_mut() {
            super::sweep::in_flight(instance, now, grace);
        }
        state.instances.iter().filter(|(_, i)| i.lease_until <= now).map(|(slot, _)| *slot).collect()
    }
}

impl State {
    fn slot_of(&mut self, uuid: &str) -> SlotId {
        if let Some(slot) = self.by_uuid.get(uuid) {
            return *slot;
        }
        self.next_slot += 1;
        self.by_uuid.insert(uuid.to_owned(), self.next_slot);
        self.next_slot
    }

    fn remove(&mut self, slot: SlotId) -> Option<Instance> {
        let instance = self.instances.remove(&slot)?;
        self.by_uuid.remove(&instance.peer.uuid);
        Some(instance)
    }

    fn offers(&self, capability: &str) -> bool {
        // An instance that was restored and has not come back has said nothing of itself yet.
        let offers = |i: &Instance| i.peer.capability(capability).is_some() || i.peer.capabilities.is_empty();
        self.instances.values().any(offers)
    }

    fn capability_unknown(&self, agent: &Name, capability: &str) -> String {
        let mut offered: Vec<&str> =
            self.instances.values().flat_map(|i| i.peer.capabilities.iter().map(|c| c.name.as_str())).collect();
        offered.sort_unstable();
        offered.dedup();
        format!("agent `{agent}` has no capability `{capability}`; it offers: {}", offered.join(", "))
    }

    /// The next instance in turn that has room.
    fn choose(&self, capability: &str) -> Option<SlotId> {
        let after = self.instances.range((Bound::Excluded(self.turn), Bound::Unbounded));
        let before = self.instances.range(..=self.turn);
        after.chain(before).find(|(_, i)| i.has_room_for(capability)).map(|(slot, _)| *slot)
    }

    /// Sends a call to an instance with room, or gives it back.
    fn dispatch(&mut self, waiting: Waiting) -> Result<(), Waiting> {
        let Some(slot) = self.choose(&waiting.call.capability) else { return Err(waiting) };
        let instance = self.instances.get_mut(&slot).expect("choose answers a slot of this map");
        instance.credit -= 1;
        let uuid = instance.peer.uuid.clone();
        self.turn = slot;
        self.place(slot, &uuid, waiting)
    }

    /// Sends a call to an instance whose credit was taken already, or gives it back.
    fn place(&mut self, slot: SlotId, uuid: &str, waiting: Waiting) -> Result<(), Waiting> {
        let Some(instance) = self.instances.get_mut(&slot).filter(|i| i.peer.uuid == uuid) else {
            return Err(waiting);
        };
        let Waiting { call, attempt, sink } = waiting;
        let frame = task_frame(&call, attempt);
        let sent = instance.link.as_ref().is_some_and(|link| link.send(frame));
        if !sent {
            // Its queue is full or closed: it gets nothing until its session says otherwise.
            instance.credit = 0;
            return Err(Waiting { call, attempt, sink });
        }
        instance.given += 1;
        let idempotent = instance.peer.capability(&call.capability).is_some_and(|c| c.idempotent);
        let entry = InFlight {
            call: Arc::clone(&call),
            attempt,
            sink,
            accepted: false,
            committing: false,
            idempotent,
            cancel: CancelState::None,
            cancel_due: None,
            last_partial: 0,
            partial_bytes: 0,
        };
        instance.in_flight.insert(call.id, entry);
        Ok(())
    }

    /// Sends what waits, as far as there is room. A call whose capability is busy lets others by.
    fn pump(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut kept = VecDeque::new();
        while let Some(waiting) = self.waiting.pop_front() {
            if waiting.sink.is_abandoned() {
                continue;
            }
            if let Err(waiting) = self.dispatch(waiting) {
                kept.push_back(waiting);
                if self.instances.values().all(|i| i.credit == 0) {
                    break;
                }
            }
        }
        kept.append(&mut self.waiting);
        self.waiting = kept;
    }

    /// A task that its instance never received: sent again, whatever the capability says.
    fn again(&mut self, task: InFlight) {
        match &task.sink {
            Sink::Durable(events) => {
                let kind = DurableEventKind::NeverReceived;
                drop(events.send(DurableEvent { call: task.call, attempt: task.attempt, kind }));
            }
            _ => self.waiting.push_front(Waiting { call: task.call, attempt: task.attempt + 1, sink: task.sink }),
        }
    }

    /// A task whose instance is gone.
    fn lost(&mut self, task: InFlight, agent: &Name) {
        if let Sink::Durable(events) = &task.sink {
            // A task from before the server's start knows its capability only from its peers.
            let declared = self.instances.values().filter_map(|i| i.peer.capability(&task.call.capability));
            let idempotent = task.idempotent || declared.into_iter().any(|c| c.idempotent);
            let kind = DurableEventKind::InstanceLost { idempotent };
            drop(events.send(DurableEvent { call: task.call, attempt: task.attempt, kind }));
            return;
        }
        let stopping = task.cancel != CancelState::None;
        let retry = !stopping && !self.instances.is_empty() && after_loss(task.idempotent, task.attempt) == AfterLoss::Retry;
        if retry {
            self.waiting.push_front(Waiting { call: task.call, attempt: task.attempt + 1, sink: task.sink });
            return;
        }
        let message = format!(
            "the instance of agent `{agent}` that had attempt {} went away; the work may have happened or not",
            task.attempt
        );
        task.sink.deliver(&task.call, problem(&Error::new(Code::AgentLost, message)));
    }

    fn refuse_waiting_if_empty(&mut self, agent: &Name) {
        if !self.instances.is_empty() {
            return;
        }
        for waiting in self.waiting.drain(..) {
            let message = format!("the last instance of agent `{agent}` went away before the call was sent");
            waiting.sink.deliver(&waiting.call, problem(&Error::new(Code::AgentUnavailable, message)));
        }
    }
}

fn task_frame(call: &Call, attempt: u32) -> v1::agent_down::Frame {
    let left = call.deadline.map(|d| d.at.saturating_duration_since(Instant::now()).as_millis().max(1));
    v1::agent_down::Frame::Task(v1::Task {
        r#ref: Some(reference(call, attempt)),
        capability: call.capability.clone(),
        idempotency_key: call.idempotency_key.clone(),
        input: Some(call.input.clone()),
        deadline_unix_ms: call.deadline.map_or(0, |d| d.unix_ms),
        context: Some(call.context.clone()),
        time_left_ms: left.map_or(0, |ms| u64::try_from(ms).unwrap_or(u64::MAX)),
    })
}

/// Asks for a stop once; a second request changes nothing.
pub(super) fn ask_to_stop(entry: &mut InFlight, link: Option<&Link>, reason: &str, grace: Duration, now: Instant) {
    if entry.cancel != CancelState::None {
        return;
    }
    entry.cancel = CancelState::Requested;
    entry.cancel_due = Some(now + grace);
    if let Some(link) = link {
        link.send(v1::agent_down::Frame::Cancel(v1::Cancel {
            r#ref: Some(entry.reference()),
            reason: reason.to_owned(),
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        }));
    }
}

fn verdict(item: &v1::InventoryItem, in_flight: &HashMap<TaskId, InFlight>) -> v1::Verdict {
    use v1::verdict::Verdict as V;
    let task = item.r#ref.clone().unwrap_or_default();
    let finished = item.state() == v1::inventory_item::State::Finished;
    let entry = task.task_id.parse::<TaskId>().ok().and_then(|id| in_flight.get(&id));
    let verdict = match entry.filter(|e| e.attempt == task.attempt) {
        Some(_) if finished => V::SendResult(v1::SendResult {}),
        Some(entry) if entry.cancel != CancelState::None => {
            V::Cancel(v1::CancelVerdict { reason: "the task was cancelled".to_owned() })
        }
        Some(entry) => V::Keep(v1::Keep { after_seq: entry.last_partial }),
        None if finished => V::Forget(v1::Forget {}),
        None => V::Cancel(v1::CancelVerdict { reason: "nobody waits for this task any more".to_owned() }),
    };
    v1::Verdict { r#ref: Some(task), verdict: Some(verdict) }
}

/// Takes out what the server thinks is in flight and the agent has never heard of.
fn take_unlisted(in_flight: &mut HashMap<TaskId, InFlight>, inventory: &[v1::InventoryItem]) -> Vec<InFlight> {
    let listed = |entry: &InFlight| {
        let reference = entry.reference();
        inventory.iter().filter_map(|i| i.r#ref.as_ref()).any(|r| r.task_id == reference.task_id && r.attempt == reference.attempt)
    };
    let missing: Vec<TaskId> = in_flight.iter().filter(|(_, e)| !e.committing && !listed(e)).map(|(id, _)| *id).collect();
    missing.into_iter().filter_map(|id| in_flight.remove(&id)).collect()
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
            instance.in_flight.values().filter(|e| e.cancel == CancelState::Unresolved).count(),
        ),
    }
}
