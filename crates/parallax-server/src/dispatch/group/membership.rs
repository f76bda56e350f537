//! Joining, leaving, and what a returning instance is told about its tasks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parallax_core::id::{SessionId, TaskId};
use parallax_core::task::CancelState;
use parallax_core::time::Timestamp;
use parallax_proto::v1;
use tokio::time::Instant;

use super::{Group, SlotId};
use super::super::call::{Call, Sink};
use super::super::instance::{InFlight, Instance, Link, Peer};

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
    /// Adds a session, new or reconnecting, and decides on its inventory.
    pub fn join(&self, joining: Joining) -> Joined {
        let mut state = self.state.lock();
        let slot = state.slot_of(&joining.peer.uuid);
        let old = state.instances.remove(&slot);
        let (superseded, mut in_flight, given) = match old {
            Some(instance) => (instance.link, instance.in_flight, instance.given),
            None => (None, HashMap::new(), 0),
        };
        let verdicts = joining
            .inventory
            .iter()
            .map(|item| verdict(item, &in_flight))
            .collect();
        let unlisted = take_unlisted(&mut in_flight, &joining.inventory);
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
        for task in unlisted {
            state.unlisted(task, &self.name);
        }
        Joined {
            slot,
            verdicts,
            superseded,
        }
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
        let Some(instance) = state.instances.get_mut(&slot) else {
            return false;
        };
        if instance
            .link
            .as_ref()
            .is_none_or(|link| link.session != session)
        {
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
            for task in instance
                .in_flight
                .into_values()
                .filter(|task| !task.committing)
            {
                state.lost(task, &self.name);
            }
            state.pump();
            state.refuse_waiting_if_empty(&self.name);
        }
    }

    /// Ends the lease of an instance whose session does not answer: says so to it, if it listens.
    pub fn expire(&self, slot: SlotId) {
        let link = self
            .state
            .lock()
            .instances
            .get(&slot)
            .and_then(|i| i.link.clone());
        if let Some(link) = link {
            link.go_away(
                v1::goaway::Reason::LeaseExpired,
                "no heartbeat arrived within the lease",
            );
        }
        self.lose(slot);
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
