//! What becomes of durable tasks' attempts: every transition is committed, then acted upon.

use std::sync::Arc;

use parallax_core::error::{Error, Result};
use parallax_core::task::transition::{self, News};
use parallax_core::task::{CancelState, Task, TaskState};
use parallax_store::tasks;
use parallax_telemetry::trace::CallSpan;
use tokio::time::Instant;

use super::App;
use super::tasks::append_task_event;
use crate::dispatch::{
    Call, CallDeadline, DurableEvent, Group, Placed, Reservation, Restored, Sink,
};

impl App {
    /// Sends a task whose row says so already. Where the instance has gone away in the meantime,
    /// the row goes back into the queue: nothing was sent.
    pub(crate) fn send_durable(&self, reservation: Reservation, row: &Task) {
        let call = self.call_of(row);
        let sink = Sink::Durable(self.durable.clone());
        match reservation.send(&call, row.attempt, sink) {
            Placed::Sent => {}
            Placed::Gone => self.tell(call, row.attempt, News::NeverReceived),
            Placed::Withdrawn => self.tell(call, row.attempt, News::Withdrawn),
        }
    }

    /// Has a task that was not sent looked at again. Where its row does not say that it was, as
    /// after a commit that failed, this changes nothing.
    pub(crate) fn not_sent(&self, row: &Task) {
        self.tell(self.call_of(row), row.attempt, News::NeverReceived);
    }

    fn tell(&self, call: Arc<Call>, attempt: u32, news: News) {
        let event = DurableEvent {
            call,
            attempt,
            news,
            from: None,
        };
        // The commit job lives as long as the server; the next start restores what it leaves.
        drop(self.durable.send(event));
    }

    /// Gives queued tasks to instances with room.
    ///
    /// # Errors
    /// Whatever the store says; what was not sent stays queued.
    pub async fn dispatch_queued(&self, rows: Vec<Task>) -> Result<()> {
        let mut sends = Vec::new();
        for row in rows {
            if row.deadline.is_some_and(|end| end <= self.clock.now()) {
                sends.push(futures::future::Either::Left(self.expire_queued(row)));
                continue;
            }
            // Whoever connects wakes the queue.
            let Some(group) = self.directory.find(row.tenant, &row.agent_name) else {
                continue;
            };
            let Some(reservation) = group.reserve_or_wait(row.id, &row.capability) else {
                continue;
            };
            sends.push(futures::future::Either::Right(
                self.dispatch_one(reservation, row),
            ));
        }
        for result in futures::future::join_all(sends).await {
            result?;
        }
        Ok(())
    }

    async fn dispatch_one(&self, reservation: Reservation, row: Task) -> Result<()> {
        let expected = (row.state, row.attempt);
        let row = transition::dispatched(row, reservation.uuid.clone(), self.clock.now());
        match self.transition(row.clone(), expected).await {
            Ok(true) => self.send_durable(reservation, &row),
            // It was cancelled or taken meanwhile; the place is given back.
            Ok(false) => {}
            Err(error) => {
                // It may have been committed all the same.
                self.not_sent(&row);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn expire_queued(&self, row: Task) -> Result<()> {
        let expected = (row.state, row.attempt);
        let row = transition::expired_in_queue(row, self.clock.now());
        self.transition(row, expected).await.map(drop)
    }

    /// Room was made on the instances of a group: queued tasks that found none are looked at.
    pub(crate) fn room_made(&self, group: &Group) {
        if group.take_backlog() {
            self.queue.notify_one();
        }
    }

    /// Restores what instances may still be at work on; to be called before any of them connects.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn restore_leased(&self) -> Result<usize> {
        let mut tx = self.store.system_read().await?;
        let rows = tasks::leased_all(&mut tx).await?;
        drop(tx);
        let until = Instant::now() + self.limits.lease_ttl;
        let count = rows.len();
        for row in rows {
            let group = self.directory.find_or_create(row.tenant, &row.agent_name);
            let Some(uuid) = row.instance_uuid.clone() else {
                continue;
            };
            let restored = Restored {
                uuid,
                call: self.call_of(&row),
                attempt: row.attempt,
                sink: Sink::Durable(self.durable.clone()),
                // Only the instance itself knows whether it arrived: its inventory will say so. One
                // that it does not list never did, for results stay listed until they are
                // committed.
                accepted: false,
                // Only the instance itself could say; if it stays away, the answer is no.
                idempotent: false,
                cancel: row.cancel,
                cancel_due: (row.cancel == CancelState::Requested)
                    .then(|| until + self.limits.cancel_grace),
            };
            group.restore(restored, until, self.clock.now());
        }
        Ok(count)
    }

    fn call_of(&self, row: &Task) -> Arc<Call> {
        let now = self.clock.now();
        let mut context = row.context.clone();
        context.message_id = format!("{}/{}", row.id, row.attempt);
        Arc::new(Call {
            tenant: row.tenant,
            id: row.id,
            agent: row.agent_name.clone(),
            capability: row.capability.clone(),
            input: row.input.clone(),
            idempotency_key: row
                .idempotency_key
                .clone()
                .unwrap_or_else(|| row.id.to_string()),
            deadline: row.deadline.map(|end| CallDeadline {
                at: Instant::now() + end.since(now),
                unix_ms: end.unix_millis(),
            }),
            context,
            // Its span ended with the submission, and is the parent of what the agent does.
            span: CallSpan::default(),
        })
    }

    /// Commits what an attempt's news mean, then acts upon it.
    ///
    /// # Errors
    /// Whatever the store says: the caller tries again, for the agent still has the result.
    pub async fn durable_event(&self, event: &Arc<DurableEvent>) -> Result<()> {
        let given = (Arc::clone(event), self.clock.now());
        let written = self
            .store
            .write(event.call.tenant, given, |tx, (event, now)| {
                Box::pin(async move {
                    let Some(row) = tasks::get(tx, event.call.id).await? else {
                        return Ok::<_, Error>(None);
                    };
                    let Some(next) = transition::next(&row, event.attempt, &event.news, *now)
                    else {
                        return Ok(None);
                    };
                    if !tasks::update(tx, &next, (row.state, row.attempt)).await? {
                        return Ok(None);
                    }
                    append_task_event(tx, &next, *now).await?;
                    Ok(Some(next.state))
                })
            });
        if written.await? == Some(TaskState::Queued) {
            self.queue.notify_one();
        }
        if let Some(from) = event.from {
            // Committed, or of no interest any more: the agent may drop it.
            if let Some(group) = self.directory.find(event.call.tenant, &event.call.agent) {
                group.committed(from, event.call.id, event.attempt);
                self.room_made(&group);
            }
        }
        Ok(())
    }

    /// Writes a transition and its event; `false` when the row has moved on in the meantime.
    async fn transition(&self, row: Task, expected: (TaskState, u32)) -> Result<bool> {
        let written = self.store.write(row.tenant, row, move |tx, row| {
            Box::pin(async move {
                let written = tasks::update(tx, row, expected).await?;
                if written {
                    append_task_event(tx, row, row.updated_at).await?;
                }
                Ok::<_, Error>(written)
            })
        });
        written.await
    }
}

#[cfg(test)]
mod tests;
