//! What becomes of durable tasks' attempts: every transition is committed, then acted upon.

mod convert;

use std::sync::Arc;

use parallax_core::backoff::restart_delay;
use parallax_core::error::{Code, Error, Result};
use parallax_core::task::{AfterLoss, CancelState, MAX_ATTEMPTS, Task, TaskState, after_loss};
use parallax_proto::v1;
use parallax_store::tasks;
use tokio::time::Instant;

use super::App;
use super::tasks::append_task_event;
use crate::dispatch::{
    Call, CallDeadline, DurableEvent, DurableEventKind, Group, Outcome, Reservation, Restored, Sink,
};

pub use convert::{
    context_from_json, context_to_json, outcome_from_json, outcome_to_json, payload_to_core,
    payload_to_wire, problem_json,
};

impl App {
    /// Sends a task whose row says so already. Where the instance has gone away in the meantime,
    /// the row goes back into the queue: nothing was sent.
    pub(crate) async fn send_durable(
        &self,
        group: &Group,
        reservation: &Reservation,
        row: &Task,
    ) -> Result<()> {
        let call = self.call_of(row);
        if group.send_reserved(
            reservation,
            &call,
            row.attempt,
            Sink::Durable(self.durable.clone()),
        ) {
            return Ok(());
        }
        self.requeue(row, None).await
    }

    /// Gives queued tasks to instances with room; answers how many rows it looked at.
    ///
    /// # Errors
    /// Whatever the store says; what was not sent stays queued.
    pub async fn dispatch_queued(&self, rows: Vec<Task>) -> Result<()> {
        let mut sends = Vec::new();
        for mut row in rows {
            if row.deadline.is_some_and(|end| end <= self.clock.now()) {
                sends.push(futures::future::Either::Left(self.expire_queued(row)));
                continue;
            }
            let Some(group) = self.directory.find(row.tenant, &row.agent_name) else {
                continue;
            };
            let Some(reservation) = group.reserve(&row.capability) else {
                continue;
            };
            row.attempt += 1;
            row.instance_uuid = Some(reservation.uuid.clone());
            sends.push(futures::future::Either::Right(self.dispatch_one(
                group,
                reservation,
                row,
            )));
        }
        for result in futures::future::join_all(sends).await {
            result?;
        }
        Ok(())
    }

    async fn dispatch_one(
        &self,
        group: Arc<Group>,
        reservation: Reservation,
        mut row: Task,
    ) -> Result<()> {
        let expected = (TaskState::Queued, row.attempt - 1);
        row.state = TaskState::Dispatched;
        row.updated_at = self.clock.now();
        if self.transition(row.clone(), expected).await? {
            return self.send_durable(&group, &reservation, &row).await;
        }
        group.release(&reservation, u32::MAX);
        Ok(())
    }

    async fn expire_queued(&self, mut row: Task) -> Result<()> {
        let expected = (row.state, row.attempt);
        row.state = TaskState::Expired;
        row.outcome_json = Some(problem_json(
            Code::DeadlineExceeded,
            "the deadline passed before an instance had room",
        ));
        row.updated_at = self.clock.now();
        self.transition(row, expected).await.map(drop)
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
                accepted: true,
                // Only the instance itself could say; if it stays away, the answer is no.
                idempotent: false,
                cancel: row.cancel,
            };
            group.restore(restored, until, self.clock.now());
        }
        Ok(count)
    }

    fn call_of(&self, row: &Task) -> Arc<Call> {
        let now = self.clock.now();
        let mut context = context_from_json(&row.context_json);
        context.message_id = format!("{}/{}", row.id, row.attempt);
        Arc::new(Call {
            tenant: row.tenant,
            id: row.id,
            agent: row.agent_name.clone(),
            capability: row.capability.clone(),
            input: payload_to_wire(&row.input),
            idempotency_key: row
                .idempotency_key
                .clone()
                .unwrap_or_else(|| row.id.to_string()),
            deadline: row.deadline.map(|end| CallDeadline {
                at: Instant::now() + end.since(now),
                unix_ms: end.unix_millis(),
            }),
            context,
        })
    }

    /// Carries out what an attempt's news mean.
    ///
    /// # Errors
    /// Whatever the store says: the caller tries again, for the agent still has the result.
    pub async fn durable_event(&self, event: &DurableEvent) -> Result<()> {
        let mut tx = self.store.read(event.call.tenant).await?;
        let row = tasks::get(&mut tx, event.call.id).await?;
        drop(tx);
        let current = row.filter(|row| row.attempt == event.attempt && !row.state.is_terminal());
        let Some(mut row) = current else {
            self.confirm(event);
            return Ok(());
        };
        let expected = (row.state, row.attempt);
        row.updated_at = self.clock.now();
        match &event.kind {
            // Live only: the directory shows it while it lasts.
            DurableEventKind::Update(_) => return Ok(()),
            DurableEventKind::Ended {
                outcome,
                idempotent,
            } => {
                if retries(outcome, *idempotent, row.attempt) && row.cancel == CancelState::None {
                    self.confirm(event);
                    return self.requeue(&row, Some(outcome)).await;
                }
                end(&mut row, outcome);
            }
            DurableEventKind::Expired => {
                row.state = TaskState::Expired;
                row.cancel = CancelState::Requested;
                row.outcome_json = Some(problem_json(
                    Code::DeadlineExceeded,
                    "the deadline passed; the agent was told to stop",
                ));
            }
            DurableEventKind::InstanceLost { idempotent } => {
                let stopping = row.cancel != CancelState::None;
                if !stopping && after_loss(*idempotent, row.attempt) == AfterLoss::Retry {
                    return self.requeue(&row, None).await;
                }
                row.state = TaskState::Lost;
                row.outcome_json = Some(problem_json(
                    Code::AgentLost,
                    "the instance that had the task went away; the work may have happened or not",
                ));
            }
            DurableEventKind::NeverReceived => return self.requeue(&row, None).await,
            DurableEventKind::CancelAcked(v1::cancel_ack::Outcome::TooLate) => {
                row.cancel = CancelState::Acked
            }
            DurableEventKind::CancelAcked(_) => {
                row.state = TaskState::Cancelled;
                row.cancel = CancelState::Stopped;
                row.outcome_json =
                    Some(problem_json(Code::Cancelled, "the agent stopped the work"));
            }
            DurableEventKind::CancelUnresolved => row.cancel = CancelState::Unresolved,
        }
        self.transition(row, expected).await?;
        self.confirm(event);
        Ok(())
    }

    /// The outcome is committed (or was before): the agent may drop it.
    fn confirm(&self, event: &DurableEvent) {
        if matches!(event.kind, DurableEventKind::Ended { .. }) {
            if let Some(group) = self.directory.find(event.call.tenant, &event.call.agent) {
                group.committed(event.call.id, event.attempt);
            }
        }
    }

    async fn requeue(&self, row: &Task, failure: Option<&Outcome>) -> Result<()> {
        let expected = (row.state, row.attempt);
        let now = self.clock.now();
        let mut row = row.clone();
        row.state = TaskState::Queued;
        row.instance_uuid = None;
        row.not_before = failure.map(|_| now.plus(restart_delay(row.attempt)));
        row.updated_at = now;
        self.transition(row, expected).await?;
        self.queue.notify_one();
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

fn retries(outcome: &Outcome, idempotent: bool, attempt: u32) -> bool {
    let retryable = matches!(outcome, Outcome::Problem(problem) if problem.retryable);
    retryable && idempotent && attempt < MAX_ATTEMPTS
}

fn end(row: &mut Task, outcome: &Outcome) {
    row.state = match outcome {
        Outcome::Success(_) => TaskState::Succeeded,
        Outcome::Problem(problem) if problem.code == Code::Cancelled.as_str() => {
            TaskState::Cancelled
        }
        Outcome::Problem(problem) if problem.code == Code::DeadlineExceeded.as_str() => {
            TaskState::Expired
        }
        Outcome::Problem(_) => TaskState::Failed,
    };
    if row.cancel != CancelState::None {
        row.cancel = if row.state == TaskState::Cancelled {
            CancelState::Stopped
        } else {
            CancelState::Acked
        };
    }
    row.outcome_json = Some(outcome_to_json(outcome));
}
