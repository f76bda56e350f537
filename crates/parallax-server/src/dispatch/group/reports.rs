//! What instances report: credit, progress, outcomes.

use parallax_core::error::Error;
use parallax_core::id::TaskId;
use parallax_core::task::transition::News;
use parallax_core::task::{CancelAck, CancelState, Outcome, Partial, Progress};
use parallax_proto::v1;
use tokio::time::Instant;

use super::super::call::{Sink, Update};
use super::super::instance::{InFlight, Instance};
use super::{Group, SlotId};

impl Group {
    /// Grants credit.
    pub fn grant(&self, slot: SlotId, n: u32) {
        let mut state = self.state.lock();
        if let Some(instance) = state.instances.get_mut(&slot) {
            instance.grant(n);
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
        self.with_task(slot, task, attempt, |entry| entry.accepted = true);
    }

    pub fn progress(&self, slot: SlotId, task: TaskId, attempt: u32, progress: Progress) {
        self.with_task(slot, task, attempt, |entry| {
            let update = Update::Progress(progress);
            entry.sink.update(&entry.call, update, &self.live);
        });
    }

    /// Passes a partial on, unless it was seen before. Once half of `window` is used up, the
    /// bytes are granted again.
    ///
    /// # Errors
    /// `invalid_request` for a partial that leaves a hole, or has more bytes than were granted: the
    /// agent does not keep to the contract.
    pub fn partial(
        &self,
        slot: SlotId,
        task: TaskId,
        attempt: u32,
        partial: Partial,
        window: u32,
    ) -> Result<(), Error> {
        let mut grant = None;
        let mut kept_to = Ok(());
        self.with_task(slot, task, attempt, |entry| {
            kept_to = check_partial(entry, &partial, window);
            if kept_to.is_err() {
                return;
            }
            let bytes = u32::try_from(partial.chunk.len()).unwrap_or(u32::MAX);
            entry.partial_bytes = entry.partial_bytes.saturating_add(bytes);
            if entry.partial_bytes >= window / 2 {
                let bytes = std::mem::take(&mut entry.partial_bytes);
                grant = Some(v1::PartialCredit {
                    r#ref: Some(entry.reference()),
                    bytes,
                });
            }
            entry.resumed = false;
            if partial.seq > entry.last_partial {
                entry.last_partial = partial.seq;
                let update = Update::Partial(partial);
                entry.sink.update(&entry.call, update, &self.live);
            }
        });
        if let Some(grant) = grant {
            self.notify(slot, v1::agent_down::Frame::PartialCredit(grant));
        }
        kept_to
    }

    /// Ends a task with the agent's outcome and returns the credit that came with it. A result
    /// for an attempt that is not (or no longer) wanted is acknowledged, so that the agent drops it.
    pub fn ended(
        &self,
        slot: SlotId,
        task: v1::TaskRef,
        id: TaskId,
        outcome: Outcome,
        credit: u32,
    ) {
        let mut state = self.state.lock();
        let Some(instance) = state.instances.get_mut(&slot) else {
            return;
        };
        instance.grant(credit);
        let entry = instance
            .in_flight
            .get_mut(&id)
            .filter(|entry| entry.attempt == task.attempt);
        match entry {
            // Sent twice, as after a reconnect: the commit is under way.
            Some(InFlight {
                committing: true, ..
            }) => {}
            Some(entry) if matches!(entry.sink, Sink::Durable(_)) => {
                entry.committing = true;
                entry.accepted = true;
                let idempotent = entry.idempotent;
                let news = News::Ended {
                    outcome,
                    idempotent,
                };
                entry.tell(news, Some(slot));
            }
            Some(_) => {
                if let Some(entry) = instance.in_flight.remove(&id) {
                    entry.sink.deliver(&entry.call, outcome);
                }
                instance.received(task);
            }
            None => instance.received(task),
        }
        state.pump();
    }

    /// Acknowledges the attached results that wait for it.
    pub(crate) fn acknowledge(&self) {
        for instance in self.state.lock().instances.values_mut() {
            instance.acknowledge();
        }
    }

    /// The outcome of a durable task, which the session `from` brought, is committed: the agent
    /// may drop it.
    pub fn committed(&self, from: SlotId, id: TaskId, attempt: u32) {
        let mut state = self.state.lock();
        let holds = |i: &Instance| i.in_flight.get(&id).is_some_and(|e| e.attempt == attempt);
        let slot = match state.instances.get(&from).is_some_and(holds) {
            true => Some(from),
            // It has reconnected in the meantime, and taken its tasks along.
            false => state
                .instances
                .iter()
                .find_map(|(s, i)| holds(i).then_some(*s)),
        };
        if let Some(instance) = slot.and_then(|slot| state.instances.get_mut(&slot))
            && let Some(entry) = instance.in_flight.remove(&id)
            && let Some(link) = &instance.link
        {
            link.acknowledge(entry.reference());
        }
        state.pump();
    }

    /// The agent answered a cancel.
    pub fn cancel_acked(&self, slot: SlotId, id: TaskId, attempt: u32, answer: CancelAck) {
        let mut state = self.state.lock();
        let Some(instance) = state.instances.get_mut(&slot) else {
            return;
        };
        let Some(entry) = instance
            .in_flight
            .get_mut(&id)
            .filter(|e| e.attempt == attempt && !e.committing)
        else {
            return;
        };
        entry.cancel_due = None;
        if answer == CancelAck::TooLate {
            if std::mem::replace(&mut entry.cancel, CancelState::Acked) == CancelState::Acked {
                return;
            }
            entry.tell(News::CancelAcked(answer), None);
        } else if let Some(entry) = instance.in_flight.remove(&id) {
            entry.stopped();
        }
        state.pump();
    }

    fn with_task(&self, slot: SlotId, id: TaskId, attempt: u32, act: impl FnOnce(&mut InFlight)) {
        let mut state = self.state.lock();
        let entry = state
            .instances
            .get_mut(&slot)
            .and_then(|i| i.in_flight.get_mut(&id));
        if let Some(entry) = entry.filter(|e| e.attempt == attempt) {
            act(entry);
        }
    }
}

/// Whether an agent keeps to the order and the window of a task's partials. What a reconnect brings
/// first may lie ahead: the server may have forgotten, and the agent may keep no more.
fn check_partial(entry: &InFlight, partial: &Partial, window: u32) -> Result<(), Error> {
    let (seq, last, id) = (partial.seq, entry.last_partial, entry.call.id);
    if seq == 0 || (seq > last.saturating_add(1) && !entry.resumed) {
        return Err(Error::invalid(format!(
            "Partial.seq {seq} of task {id} comes after {last}: it counts from 1 without holes"
        )));
    }
    let bytes = partial.chunk.len();
    let room = window.saturating_sub(entry.partial_bytes);
    if bytes > room as usize {
        return Err(Error::invalid(format!(
            "a Partial of task {id} has {bytes} bytes, and its window had {room} left"
        )));
    }
    Ok(())
}
