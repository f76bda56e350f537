//! The scheduling behind a group's lock: who gets what, and what becomes of it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use parallax_core::error::Code;
use parallax_core::name::Name;
use parallax_core::task::transition::News;
use parallax_core::task::{AfterLoss, CancelState, Outcome, after_loss};
use parallax_proto::v1;
use tokio::time::Instant;

use super::super::call::{Call, Sink};
use super::super::instance::{InFlight, Instance, reference};
use super::super::queue::{Queue, Waiting};
use super::SlotId;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) instances: BTreeMap<SlotId, Instance>,
    pub(super) by_uuid: HashMap<String, SlotId>,
    /// Calls that no instance has room for: whatever makes room pumps them.
    pub(super) waiting: Queue,
    /// The slot that was given a task last.
    pub(super) turn: SlotId,
    pub(super) next_slot: SlotId,
}

impl State {
    /// A new slot for an instance. Every session has one of its own, so that what an earlier
    /// session of the instance still says, or was promised, cannot reach the new one.
    pub(super) fn new_slot(&mut self, uuid: &str) -> SlotId {
        self.next_slot += 1;
        self.by_uuid.insert(uuid.to_owned(), self.next_slot);
        self.next_slot
    }

    pub(super) fn remove(&mut self, slot: SlotId) -> Option<Instance> {
        let instance = self.instances.remove(&slot)?;
        self.by_uuid.remove(&instance.peer.uuid);
        Some(instance)
    }

    pub(super) fn offers(&self, capability: &str) -> bool {
        // An instance that was restored and has not come back has said nothing of itself yet.
        let offers = |i: &Instance| {
            i.peer.capability(capability).is_some() || i.peer.capabilities.is_empty()
        };
        self.instances.values().any(offers)
    }

    pub(super) fn capability_unknown(&self, agent: &Name, capability: &str) -> String {
        let mut offered: Vec<&str> = self
            .instances
            .values()
            .flat_map(|i| i.peer.capabilities.iter().map(|c| c.name.as_str()))
            .collect();
        offered.sort_unstable();
        offered.dedup();
        format!(
            "agent `{agent}` has no capability `{capability}`; it offers: {}",
            offered.join(", ")
        )
    }

    /// The next instance in turn that has room.
    pub(super) fn choose(&self, capability: &str) -> Option<SlotId> {
        let after = self
            .instances
            .range((Bound::Excluded(self.turn), Bound::Unbounded));
        let before = self.instances.range(..=self.turn);
        after
            .chain(before)
            .find(|(_, i)| i.has_room_for(capability))
            .map(|(slot, _)| *slot)
    }

    /// Sends a call to an instance with room, or gives it back.
    pub(super) fn dispatch(&mut self, mut waiting: Waiting) -> Result<(), Waiting> {
        // An instance whose queue is full has no credit afterwards: this ends.
        while let Some(slot) = self.choose(&waiting.call.capability) {
            let instance = self
                .instances
                .get_mut(&slot)
                .expect("choose answers a slot of this map");
            instance.credit -= 1;
            self.turn = slot;
            match self.place(slot, waiting) {
                Ok(()) => return Ok(()),
                Err(refused) => waiting = refused,
            }
        }
        Err(waiting)
    }

    /// Sends a call to an instance whose credit was taken already, or gives it back.
    pub(super) fn place(&mut self, slot: SlotId, waiting: Waiting) -> Result<(), Waiting> {
        let Some(instance) = self.instances.get_mut(&slot) else {
            return Err(waiting);
        };
        let Waiting {
            call,
            attempt,
            sink,
        } = waiting;
        instance.acknowledge();
        let frame = task_frame(&call, attempt);
        let sent = instance.link.as_ref().is_some_and(|link| link.send(frame));
        if !sent {
            // Its queue is full or closed: it gets nothing until its session says otherwise.
            instance.credit = 0;
            return Err(Waiting {
                call,
                attempt,
                sink,
            });
        }
        instance.given += 1;
        let idempotent = instance
            .peer
            .capability(&call.capability)
            .is_some_and(|c| c.idempotent);
        let entry = InFlight {
            call: Arc::clone(&call),
            attempt,
            sink,
            accepted: false,
            committing: false,
            expired: false,
            idempotent,
            cancel: CancelState::None,
            asked: false,
            cancel_due: None,
            last_partial: 0,
            resumed: false,
            partial_bytes: 0,
        };
        instance.in_flight.insert(call.id, entry);
        Ok(())
    }

    /// Sends what waits, as far as there is room. A call whose capability is busy lets others by.
    pub(super) fn pump(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut heads = self.waiting.heads();
        while let Some(Reverse(place)) = heads.pop() {
            let Some(waiting) = self.waiting.take(place) else {
                continue;
            };
            let call = Arc::clone(&waiting.call);
            if !waiting.sink.is_abandoned()
                && let Err(waiting) = self.dispatch(waiting)
            {
                self.waiting.put(place, waiting);
                // No room for this capability: its line stays as it is.
                continue;
            }
            heads.extend(self.waiting.head_of(&call.capability).map(Reverse));
        }
    }

    /// A task that its own instance does not list after a reconnect. Not accepted: it never
    /// arrived. Asked to stop: it stopped, and only the answer was lost. Accepted and unlisted is
    /// not what the contract allows: then nothing is known of the work.
    pub(super) fn unlisted(&mut self, task: InFlight, agent: &Name) {
        if task.cancel != CancelState::None {
            task.stopped();
        } else if task.accepted {
            self.lost(task, agent);
        } else {
            self.again(task);
        }
    }

    /// A task that its instance never received: sent again, whatever the capability says.
    fn again(&mut self, task: InFlight) {
        if task.tell(News::NeverReceived, None) {
            return;
        }
        self.waiting.push_front(Waiting {
            call: task.call,
            attempt: task.attempt + 1,
            sink: task.sink,
        });
    }

    /// A task whose instance is gone.
    pub(super) fn lost(&mut self, task: InFlight, agent: &Name) {
        if matches!(task.sink, Sink::Durable(_)) {
            // A task from before the server's start knows its capability only from its peers.
            let declared = self
                .instances
                .values()
                .filter_map(|i| i.peer.capability(&task.call.capability));
            let idempotent = task.idempotent || declared.into_iter().any(|c| c.idempotent);
            task.tell(News::InstanceLost { idempotent }, None);
            return;
        }
        let stopping = task.cancel != CancelState::None;
        let retry = !stopping
            && !self.instances.is_empty()
            && after_loss(task.idempotent, task.attempt) == AfterLoss::Retry;
        if retry {
            self.waiting.push_front(Waiting {
                call: task.call,
                attempt: task.attempt + 1,
                sink: task.sink,
            });
            return;
        }
        let message = format!(
            "the instance of agent `{agent}` that had attempt {} went away; the work may have happened or not",
            task.attempt
        );
        task.sink
            .deliver(&task.call, Outcome::problem(Code::AgentLost, message));
    }

    pub(super) fn refuse_waiting_if_empty(&mut self, agent: &Name) {
        if !self.instances.is_empty() {
            return;
        }
        for waiting in self.waiting.drain() {
            let message =
                format!("the last instance of agent `{agent}` went away before the call was sent");
            waiting.sink.deliver(
                &waiting.call,
                Outcome::problem(Code::AgentUnavailable, message),
            );
        }
    }
}

fn task_frame(call: &Call, attempt: u32) -> v1::agent_down::Frame {
    let left = call.deadline.map(|d| {
        d.at.saturating_duration_since(Instant::now())
            .as_millis()
            .max(1)
    });
    v1::agent_down::Frame::Task(v1::Task {
        r#ref: Some(reference(call, attempt)),
        capability: call.capability.clone(),
        idempotency_key: call.idempotency_key.clone(),
        input: Some(call.input.clone().into()),
        deadline_unix_ms: call.deadline.map_or(0, |d| d.unix_ms),
        context: Some(call.context.clone().into()),
        time_left_ms: left.map_or(0, |ms| u64::try_from(ms).unwrap_or(u64::MAX)),
    })
}
