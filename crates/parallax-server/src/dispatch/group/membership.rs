//! Joining, leaving, and what a returning instance is told about its tasks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parallax_core::id::TaskId;
use parallax_core::instance::Sdk;
use parallax_core::task::CancelState;
use parallax_core::time::Timestamp;
use parallax_proto::v1;
use tokio::time::Instant;

use super::super::MAX_CREDIT;
use super::super::call::{Call, Sink};
use super::super::instance::{InFlight, Instance, Link, Peer};
use super::{Group, SlotId};

/// What a new session finds.
#[derive(Debug)]
pub struct Joined {
    pub slot: SlotId,
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
    /// The first frame down, to which the verdicts are added.
    pub welcome: v1::Welcome,
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
    /// When a cancel that was asked for before counts as unresolved.
    pub cancel_due: Option<Instant>,
}

impl Group {
    /// Adds a session, new or reconnecting, decides on its inventory, and welcomes it: nothing
    /// else goes down before. `None` when a session with a later epoch was faster.
    pub fn join(&self, joining: Joining) -> Option<Joined> {
        let mut state = self.state.lock();
        let old = state.by_uuid.get(&joining.peer.uuid).copied();
        let newer = old.and_then(|slot| state.instances.get(&slot));
        if newer.is_some_and(|i| i.lease_epoch > joining.lease_epoch) {
            return None;
        }
        let (superseded, mut in_flight, given) = match old.and_then(|slot| state.remove(slot)) {
            Some(instance) => (instance.link, instance.in_flight, instance.given),
            None => (None, HashMap::new(), 0),
        };
        let mut welcome = joining.welcome;
        welcome.verdicts = joining
            .inventory
            .iter()
            .map(|item| verdict(item, &in_flight))
            .collect();
        let unlisted = take_unlisted(&mut in_flight, &joining.inventory);
        for task in in_flight.values_mut() {
            // The window of a new stream is fresh; what is listed has arrived.
            task.partial_bytes = 0;
            task.resumed = true;
            task.accepted = true;
            // Its verdict says so.
            task.asked = task.cancel != CancelState::None;
        }
        joining.link.send(v1::agent_down::Frame::Welcome(welcome));
        let slot = state.new_slot(&joining.peer.uuid);
        let instance = Instance {
            peer: Arc::new(joining.peer),
            link: Some(joining.link),
            lease_epoch: joining.lease_epoch,
            lease_until: joining.lease_until,
            connected_at: joining.connected_at,
            credit: joining.credit.min(MAX_CREDIT),
            draining: joining.draining,
            given,
            load_ppm: None,
            in_flight,
            reserved: HashMap::new(),
            acks: Vec::new(),
        };
        state.instances.insert(slot, instance);
        for task in unlisted {
            state.unlisted(task, &self.name);
        }
        state.pump();
        Some(Joined { slot, superseded })
    }

    /// Restores a durable task under the lease of an instance that may come back.
    pub fn restore(&self, restored: Restored, lease_until: Instant, now: Timestamp) {
        let mut state = self.state.lock();
        let slot = match state.by_uuid.get(&restored.uuid) {
            Some(slot) => *slot,
            None => state.new_slot(&restored.uuid),
        };
        let instance = state.instances.entry(slot).or_insert_with(|| Instance {
            peer: Arc::new(Peer {
                uuid: restored.uuid.clone(),
                hosted: None,
                key: None,
                sdk: Sdk::default(),
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
            reserved: HashMap::new(),
            acks: Vec::new(),
        });
        let task = InFlight {
            call: restored.call,
            attempt: restored.attempt,
            sink: restored.sink,
            accepted: restored.accepted,
            committing: false,
            expired: false,
            idempotent: restored.idempotent,
            cancel: restored.cancel,
            asked: false,
            cancel_due: restored.cancel_due,
            last_partial: 0,
            resumed: true,
            partial_bytes: 0,
        };
        instance.in_flight.insert(task.call.id, task);
    }

    /// The session's connection ended. What it was given stays with the instance until the lease
    /// ends; an instance that holds nothing is gone at once (`true`).
    pub fn leave(&self, slot: SlotId) -> bool {
        let mut state = self.state.lock();
        let Some(instance) = state.instances.get_mut(&slot) else {
            return false;
        };
        instance.link = None;
        // Its inventory will ask again, if it comes back.
        instance.acks.clear();
        instance.credit = 0;
        if instance.in_flight.is_empty() {
            state.remove(slot);
            state.refuse_waiting_if_empty(&self.name);
            return true;
        }
        false
    }

    /// Ends the lease of an instance that is gone for certain, and says so to it, should it still
    /// listen: its process was seen to end, or (with `now`) its lease ran out by then. `None`
    /// when it came back in the meantime.
    pub fn expire(&self, slot: SlotId, now: Option<Instant>) -> Option<Arc<Peer>> {
        let mut state = self.state.lock();
        let lease = state.instances.get(&slot)?.lease_until;
        if now.is_some_and(|now| lease > now) {
            return None;
        }
        let instance = state.remove(slot)?;
        if let Some(link) = &instance.link {
            link.go_away(
                v1::goaway::Reason::LeaseExpired,
                "no heartbeat arrived within the lease",
            );
        }
        for task in instance.in_flight.into_values() {
            // What is being committed has ended already.
            if !task.committing {
                state.lost(task, &self.name);
            }
        }
        state.pump();
        state.refuse_waiting_if_empty(&self.name);
        Some(instance.peer)
    }
}

fn verdict(item: &v1::InventoryItem, in_flight: &HashMap<TaskId, InFlight>) -> v1::Verdict {
    use v1::verdict::Verdict as V;
    let task = item.r#ref.clone().unwrap_or_default();
    let finished = item.state() == v1::inventory_item::State::Finished;
    let entry = task
        .task_id
        .parse::<TaskId>()
        .ok()
        .and_then(|id| in_flight.get(&id));
    let verdict = match entry.filter(|e| e.attempt == task.attempt) {
        Some(_) if finished => V::SendResult(v1::SendResult {}),
        Some(entry) if entry.cancel != CancelState::None => V::Cancel(v1::CancelVerdict {
            reason: "the task was cancelled".to_owned(),
        }),
        Some(entry) => V::Keep(v1::Keep {
            after_seq: entry.last_partial,
        }),
        None if finished => V::Forget(v1::Forget {}),
        None => V::Cancel(v1::CancelVerdict {
            reason: "nobody waits for this task any more".to_owned(),
        }),
    };
    v1::Verdict {
        r#ref: Some(task),
        verdict: Some(verdict),
    }
}

/// Takes out what the server thinks is in flight and the agent has never heard of.
fn take_unlisted(
    in_flight: &mut HashMap<TaskId, InFlight>,
    inventory: &[v1::InventoryItem],
) -> Vec<InFlight> {
    let listed = |entry: &InFlight| {
        let reference = entry.reference();
        inventory
            .iter()
            .filter_map(|i| i.r#ref.as_ref())
            .any(|r| r.task_id == reference.task_id && r.attempt == reference.attempt)
    };
    let missing: Vec<TaskId> = in_flight
        .iter()
        .filter(|(_, e)| !e.committing && !listed(e))
        .map(|(id, _)| *id)
        .collect();
    missing
        .into_iter()
        .filter_map(|id| in_flight.remove(&id))
        .collect()
}
