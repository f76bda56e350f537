//! Durable tasks: committed before the caller hears of them, and before an agent does.

mod watch;

use parallax_core::error::{Code, Error, Result};
use parallax_core::event::Subject;
use parallax_core::id::{AgentId, TaskId, TenantId};
use parallax_core::key::{Principal, Scope};
use parallax_core::name::Name;
use parallax_core::task::{CancelState, Payload, Task, TaskState, transition};
use parallax_core::time::Timestamp;
use parallax_store::{Listed, Page, agents, events, tasks};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::App;
use super::events::event;
use super::invoke::Invocation;
use crate::auth::require;
use crate::dispatch::{Call, CancelRequest};

pub use watch::{TaskChange, TaskNews, TaskWatch};

/// Longest idempotency key.
const MAX_KEY: usize = 255;

/// A durable call.
#[derive(Debug, Clone)]
pub struct Submission {
    pub request: Invocation,
    pub idempotency_key: Option<String>,
}

/// A task as callers see it: its row, with what is only known live.
#[derive(Debug, Clone)]
pub struct TaskRecord {
    pub row: Task,
}

impl App {
    /// Commits a task, then sends it to an instance or leaves it queued.
    ///
    /// # Errors
    /// `not_found` for an agent that is neither hosted nor connected, `idempotency_mismatch`, and
    /// what is wrong with the request.
    pub async fn submit_task(
        &self,
        principal: &Principal,
        submission: Submission,
    ) -> Result<TaskRecord> {
        require(principal, Scope::Invoke)?;
        let key = submission.idempotency_key;
        if key.as_ref().is_some_and(|key| key.len() > MAX_KEY) {
            return Err(Error::invalid(format!(
                "an idempotency key has at most {MAX_KEY} bytes"
            )));
        }
        let name = self
            .callee(principal.tenant, &submission.request.agent)
            .await?;
        let deadline = submission.request.deadline.filter(|d| !d.is_zero());
        let call = self.call(principal, name, submission.request)?;
        let hosted = self.hosted_or_connected(&call).await?;
        let now = self.clock.now();
        let row = Task {
            tenant: call.tenant,
            id: call.id,
            agent_name: call.agent.clone(),
            agent: hosted,
            capability: call.capability.clone(),
            input: call.input.clone(),
            request_hash: request_hash(&call),
            idempotency_key: key,
            state: TaskState::Queued,
            cancel: CancelState::None,
            attempt: 0,
            instance_uuid: None,
            context: call.context.clone(),
            outcome: None,
            caller: principal.name.clone(),
            deadline: deadline.map(|d| now.plus(d)),
            not_before: None,
            created_at: now,
            updated_at: now,
        };
        // A caller that goes away meanwhile must not leave a task behind that is committed as sent
        // and was not.
        let Some(app) = self.weak.upgrade() else {
            return Err(Error::new(Code::ShuttingDown, "the server stops"));
        };
        let stored = self.tasks.spawn(async move { app.store_task(row).await });
        stored.await.map_err(Error::internal)?
    }

    async fn store_task(&self, mut row: Task) -> Result<TaskRecord> {
        let reservation = self
            .directory
            .find(row.tenant, &row.agent_name)
            .and_then(|group| group.reserve_or_wait(row.id, &row.capability));
        if let Some(reservation) = &reservation {
            let now = row.created_at;
            row = transition::dispatched(row, reservation.uuid.clone(), now);
        }
        match self.insert_task(row.clone()).await {
            Ok(None) => {}
            Ok(Some(existing)) => return self.same_request(existing, &row),
            Err(error) => {
                // It may have been committed all the same.
                self.not_sent(&row);
                return Err(error);
            }
        }
        match reservation {
            Some(reservation) => self.send_durable(reservation, &row),
            None => self.queue.notify_one(),
        }
        Ok(self.record(row))
    }

    async fn insert_task(&self, row: Task) -> Result<Option<Task>> {
        let inserted = self.store.write(row.tenant, row, |tx, row| {
            Box::pin(async move {
                if let Some(existing) = tasks::insert_or_get(tx, row).await? {
                    return Ok::<_, Error>(Some(existing));
                }
                append_task_event(tx, row, row.created_at).await?;
                Ok(None)
            })
        });
        inserted.await
    }

    fn same_request(&self, existing: Task, wanted: &Task) -> Result<TaskRecord> {
        if existing.request_hash != wanted.request_hash {
            let message = format!(
                "this Idempotency-Key was used for task {}, with another agent, capability or input",
                existing.id
            );
            return Err(Error::new(Code::IdempotencyMismatch, message));
        }
        Ok(self.record(existing))
    }

    /// The hosted agent's id, or `None` for an external one that is connected. Whoever is connected
    /// says it without a look into the database.
    async fn hosted_or_connected(&self, call: &Call) -> Result<Option<AgentId>> {
        let group = self.directory.find(call.tenant, &call.agent);
        if let Some(agent) = group.as_ref().and_then(|group| group.hosted_agent()) {
            return Ok(agent);
        }
        let mut tx = self.store.read(call.tenant).await?;
        if let Some(agent) = agents::by_name(&mut tx, &call.agent).await? {
            return Ok(Some(agent.id));
        }
        if group.is_some_and(|group| group.size().0 > 0) {
            return Ok(None);
        }
        Err(self.explain_absence(call.tenant, &call.agent).await)
    }

    /// One task.
    ///
    /// # Errors
    /// `not_found`, `forbidden` without `read`.
    pub async fn get_task(&self, principal: &Principal, id: TaskId) -> Result<TaskRecord> {
        require(principal, Scope::Read)?;
        self.task_record(principal.tenant, id).await
    }

    pub(crate) async fn task_record(&self, tenant: TenantId, id: TaskId) -> Result<TaskRecord> {
        let mut tx = self.store.read(tenant).await?;
        let row = tasks::get(&mut tx, id)
            .await?
            .ok_or_else(|| Error::not_found("task", id))?;
        Ok(self.record(row))
    }

    /// Durable tasks, newest first.
    ///
    /// # Errors
    /// `forbidden` without `read`.
    pub async fn list_tasks(
        &self,
        principal: &Principal,
        agent: Option<Name>,
        state: Option<TaskState>,
        page: &Page,
    ) -> Result<Listed<TaskRecord>> {
        require(principal, Scope::Read)?;
        let mut tx = self.store.read(principal.tenant).await?;
        let listed = tasks::list(&mut tx, &tasks::Filter { agent, state }, page).await?;
        let items = listed
            .items
            .into_iter()
            .map(|row| self.record(row))
            .collect();
        Ok(Listed {
            items,
            more: listed.more,
        })
    }

    /// Asks for a stop. What was not sent is over at once; what runs is over when its agent says
    /// so, and shows as unresolved when it does not say.
    ///
    /// # Errors
    /// `not_found`; `conflict` for a task that has ended.
    pub async fn cancel_task(
        &self,
        principal: &Principal,
        id: TaskId,
        reason: &str,
    ) -> Result<TaskRecord> {
        require(principal, Scope::Invoke)?;
        let task = self.task_record(principal.tenant, id).await?;
        if task.row.state.is_terminal() {
            return Err(Error::new(
                Code::Conflict,
                format!("task {id} has ended already: {}", task.row.state),
            ));
        }
        let asked = self.ask_to_stop(&task.row, reason);
        let changed = self.note_cancel(&task.row).await?;
        if !asked && changed.is_some_and(|row| row.state.is_leased()) {
            // It was just being sent when the first question came.
            self.ask_to_stop(&task.row, reason);
        }
        self.task_record(principal.tenant, id).await
    }

    fn ask_to_stop(&self, row: &Task, reason: &str) -> bool {
        let group = self.directory.find(row.tenant, &row.agent_name);
        let grace = self.limits.cancel_grace;
        group.is_some_and(|group| {
            group.cancel(row.id, reason, grace, Instant::now()) == CancelRequest::Asked
        })
    }

    /// Writes a cancel into the row; answers the row, if that changed it. What waits is over at
    /// once.
    async fn note_cancel(&self, task: &Task) -> Result<Option<Task>> {
        let given = (task.id, self.clock.now());
        let changed = self.store.write(task.tenant, given, |tx, (id, now)| {
            Box::pin(async move {
                let Some(row) = tasks::get(tx, *id).await? else {
                    return Ok::<_, Error>(None);
                };
                let expected = (row.state, row.attempt);
                let Some(row) = transition::cancelled(row, *now) else {
                    return Ok(None);
                };
                if !tasks::update(tx, &row, expected).await? {
                    return Ok(None);
                }
                append_task_event(tx, &row, *now).await?;
                Ok(Some(row))
            })
        });
        changed.await
    }

    /// Passes an answer on to a running task.
    ///
    /// # Errors
    /// `conflict` when no connected instance runs it.
    pub async fn answer_task(
        &self,
        principal: &Principal,
        id: TaskId,
        input_id: String,
        value: Payload,
    ) -> Result<()> {
        require(principal, Scope::Input)?;
        value.check_size()?;
        let task = self.task_record(principal.tenant, id).await?;
        let group = self.directory.find(principal.tenant, &task.row.agent_name);
        if group.is_some_and(|group| group.input(id, input_id, value)) {
            return Ok(());
        }
        Err(Error::new(
            Code::Conflict,
            format!(
                "task {id} runs on no connected instance now ({})",
                task.row.state
            ),
        ))
    }

    /// Adds what only the directory knows: whether the attempt was accepted, and is suspect.
    pub(crate) fn record(&self, mut row: Task) -> TaskRecord {
        if row.state.is_leased() {
            let live = self
                .directory
                .find(row.tenant, &row.agent_name)
                .zip(row.instance_uuid.as_deref())
                .and_then(|(group, uuid)| group.live_state(row.id, uuid));
            row.state = match live {
                Some((_, false)) | None => TaskState::Suspect,
                Some((true, true)) => TaskState::Running,
                Some((false, true)) => TaskState::Dispatched,
            };
        }
        TaskRecord { row }
    }
}

/// Notes a task's present state in the log; the kind is the state.
pub(crate) async fn append_task_event(
    tx: &mut parallax_store::Tx,
    row: &Task,
    at: Timestamp,
) -> Result<()> {
    let message = format!(
        "attempt {} of `{}` on agent `{}`",
        row.attempt, row.capability, row.agent_name
    );
    let mut entry = event(at, Subject::Task, &row.id, row.state.as_str(), message);
    entry.data_json =
        serde_json::json!({ "attempt": row.attempt, "cancel": row.cancel.as_str() }).to_string();
    events::append(tx, &entry).await?;
    Ok(())
}

fn request_hash(call: &Call) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in [call.agent.as_str().as_bytes(), call.capability.as_bytes()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    match &call.input {
        Payload::Json(json) => hash.update(json.as_bytes()),
        Payload::Blob(blob) => hash.update(blob.digest.as_str()),
    }
    hash.finalize().to_vec()
}

#[cfg(test)]
mod tests;
