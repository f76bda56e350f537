//! Places for durable tasks: a row names the instance before the task is sent, so the place is
//! taken first, and given back by whoever holds it no longer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parallax_core::id::TaskId;

use super::super::call::{Call, Sink};
use super::super::instance::Reserved;
use super::super::queue::Waiting;
use super::{Group, SlotId};

/// A place on an instance that is set aside for one task. Dropping it gives the place back.
#[derive(Debug)]
pub struct Reservation {
    group: Arc<Group>,
    slot: SlotId,
    task: TaskId,
    /// The instance, for the task's row.
    pub uuid: String,
    used: bool,
}

/// What became of a task that a place was reserved for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    Sent,
    /// The instance, or that session of it, is gone: it never received the task.
    Gone,
    /// The task was cancelled in the meantime, and was not sent.
    Withdrawn,
}

impl Group {
    /// As [`Self::reserve`]; where there is no room, the next room made is told of
    /// ([`Self::take_backlog`]).
    pub fn reserve_or_wait(
        self: &Arc<Self>,
        task: TaskId,
        capability: &str,
    ) -> Option<Reservation> {
        let reservation = self.reserve(task, capability);
        if reservation.is_some() {
            return reservation;
        }
        self.backlog.store(true, Ordering::Release);
        // Room that was made just before this was told to nobody.
        self.reserve(task, capability)
    }

    /// Whether durable tasks found no room since this was asked last.
    pub fn take_backlog(&self) -> bool {
        self.backlog.load(Ordering::Acquire) && self.backlog.swap(false, Ordering::AcqRel)
    }

    /// Sets a place on an instance aside for a durable task.
    pub fn reserve(self: &Arc<Self>, task: TaskId, capability: &str) -> Option<Reservation> {
        let mut state = self.state.lock();
        let slot = state.choose(capability)?;
        let instance = state.instances.get_mut(&slot)?;
        instance.credit -= 1;
        let reserved = Reserved {
            capability: capability.to_owned(),
            cancelled: false,
        };
        instance.reserved.insert(task, reserved);
        let uuid = instance.peer.uuid.clone();
        state.turn = slot;
        Some(Reservation {
            group: Arc::clone(self),
            slot,
            task,
            uuid,
            used: false,
        })
    }
}

impl Reservation {
    /// Sends the task that the place was reserved for.
    pub fn send(mut self, call: &Arc<Call>, attempt: u32, sink: Sink) -> Placed {
        self.used = true;
        let mut state = self.group.state.lock();
        let reserved = state
            .instances
            .get_mut(&self.slot)
            .and_then(|instance| instance.reserved.remove(&self.task));
        match reserved {
            None => Placed::Gone,
            Some(reserved) if reserved.cancelled => {
                if let Some(instance) = state.instances.get_mut(&self.slot) {
                    instance.grant(1);
                }
                state.pump();
                Placed::Withdrawn
            }
            Some(_) => {
                let waiting = Waiting {
                    call: Arc::clone(call),
                    attempt,
                    sink,
                };
                match state.place(self.slot, waiting) {
                    Ok(()) => Placed::Sent,
                    Err(_) => Placed::Gone,
                }
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.used {
            return;
        }
        let mut state = self.group.state.lock();
        let Some(instance) = state.instances.get_mut(&self.slot) else {
            return;
        };
        if instance.reserved.remove(&self.task).is_some() {
            instance.grant(1);
            state.pump();
        }
    }
}
