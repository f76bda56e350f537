//! Durable tasks.

use parallax_core::id::{TaskId, TenantId};
use parallax_core::json;
use parallax_core::name::Name;
use parallax_core::task::{Payload, Task, TaskState};
use parallax_core::time::Timestamp;

use crate::error::StoreError;
use crate::page::{Listed, Page};
use crate::row::Row;
use crate::tx::Tx;
use crate::value::{Json, values};

macro_rules! columns {
    () => {
        "tenant_id, task_id, agent_name, agent_id, capability, input_json, input_blob_json, \
         idempotency_key, request_hash, state, cancel, attempt, instance_uuid, context_json, \
         outcome_json, caller, deadline, not_before, created_at, updated_at"
    };
}

/// Adds a task, unless its idempotency key was used before: then the task of that key is returned
/// and nothing is added. The caller compares the `request_hash`.
pub async fn insert_or_get(tx: &mut Tx, task: &Task) -> Result<Option<Task>, StoreError> {
    tx.check(task.tenant, "task")?;
    let (json, blob) = match &task.input {
        Payload::Json(json) => (Some(json.as_bytes()), None),
        Payload::Blob(blob) => (None, Some(Json(blob))),
    };
    let inserted = tx
        .execute(
            concat!(
                "INSERT INTO tasks (",
                columns!(),
                ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, \
                 $17, $18, $19, $20) ON CONFLICT (tenant_id, idempotency_key) DO NOTHING"
            ),
            values![
                task.tenant,
                task.id,
                task.agent_name,
                task.agent,
                task.capability,
                json,
                blob,
                task.idempotency_key,
                task.request_hash,
                task.state,
                task.cancel,
                task.attempt,
                task.instance_uuid,
                Json(&task.context),
                task.outcome.as_ref().map(Json),
                task.caller,
                task.deadline,
                task.not_before,
                task.created_at,
                task.updated_at,
            ],
        )
        .await?;
    if inserted == 1 {
        return Ok(None);
    }
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM tasks WHERE tenant_id = $1 AND idempotency_key = $2"
    );
    let existing = tx
        .find(sql, values![task.tenant, task.idempotency_key], read)
        .await?;
    existing.map(Some).ok_or(StoreError::NotFound("task"))
}

/// The task with this id.
pub async fn get(tx: &mut Tx, id: TaskId) -> Result<Option<Task>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM tasks WHERE tenant_id = $1 AND task_id = $2"
    );
    tx.find(sql, values![tenant, id], read).await
}

/// Which tasks a list shows; `None` shows all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub agent: Option<Name>,
    pub state: Option<TaskState>,
}

/// Tasks by id, newest first; the key of a page is the id.
pub async fn list(tx: &mut Tx, filter: &Filter, page: &Page) -> Result<Listed<Task>, StoreError> {
    let tenant = tx.tenant()?;
    let (before, limit) = (page.descending(), page.fetch());
    let tasks = match &filter.agent {
        Some(agent) => {
            let sql = concat!(
                "SELECT ",
                columns!(),
                " FROM tasks WHERE tenant_id = $1 AND agent_name = $4 AND task_id < $2
                   AND ($5 IS NULL OR state = $5) ORDER BY task_id DESC LIMIT $3"
            );
            tx.list(
                sql,
                values![tenant, before, limit, agent, filter.state],
                read,
            )
            .await?
        }
        None => {
            let sql = concat!(
                "SELECT ",
                columns!(),
                " FROM tasks WHERE tenant_id = $1 AND task_id < $2
                   AND ($4 IS NULL OR state = $4) ORDER BY task_id DESC LIMIT $3"
            );
            tx.list(sql, values![tenant, before, limit, filter.state], read)
                .await?
        }
    };
    Ok(page.cut(tasks))
}

/// Writes what changes in a task's life, provided it still is in the state and attempt that the
/// caller read; whether it was. What came with the request (input, capability, keys) stays.
pub async fn update(
    tx: &mut Tx,
    task: &Task,
    expected: (TaskState, u32),
) -> Result<bool, StoreError> {
    tx.check(task.tenant, "task")?;
    let changed = tx
        .execute(
            "UPDATE tasks SET state = $3, cancel = $4, attempt = $5, instance_uuid = $6,
                 outcome_json = $7, deadline = $8, not_before = $9, updated_at = $10
             WHERE tenant_id = $1 AND task_id = $2 AND state = $11 AND attempt = $12",
            values![
                task.tenant,
                task.id,
                task.state,
                task.cancel,
                task.attempt,
                task.instance_uuid,
                task.outcome.as_ref().map(Json),
                task.deadline,
                task.not_before,
                task.updated_at,
                expected.0,
                expected.1,
            ],
        )
        .await?;
    Ok(changed == 1)
}

/// Queued tasks of every tenant that may be dispatched at `now`, oldest first, those after the id
/// `after` if one is given. System only.
pub async fn due_queued(
    tx: &mut Tx,
    now: Timestamp,
    after: Option<TaskId>,
    limit: u32,
) -> Result<Vec<Task>, StoreError> {
    tx.check_system("task")?;
    let after = after.map_or_else(String::new, |id| id.to_string());
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM tasks WHERE state = 'queued' AND (not_before IS NULL OR not_before <= $1)
           AND task_id > $2 ORDER BY task_id LIMIT $3"
    );
    tx.list(sql, values![now, after, limit], read).await
}

/// Every task of every tenant that an instance may be at work on, for the server's start.
/// System only.
pub async fn leased_all(tx: &mut Tx) -> Result<Vec<Task>, StoreError> {
    tx.check_system("task")?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM tasks WHERE state IN ('dispatched', 'running', 'suspect') ORDER BY task_id"
    );
    tx.list(sql, &[], read).await
}

/// How many tasks of a tenant have not ended: what a quota counts. System or tenant.
pub async fn count_open(tx: &mut Tx, tenant: TenantId) -> Result<u64, StoreError> {
    tx.check(tenant, "task")?;
    let sql = "SELECT COUNT(*) AS open FROM tasks WHERE tenant_id = $1
         AND state IN ('queued', 'dispatched', 'running', 'suspect')";
    tx.fetch_one(sql, values![tenant]).await?.count("open")
}

/// Deletes tasks that ended before `before`, at most `limit` of them so that no write takes long;
/// returns how many. System only.
pub async fn prune(tx: &mut Tx, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
    tx.check_system("task")?;
    tx.execute(
        "DELETE FROM tasks WHERE (tenant_id, task_id) IN (
             SELECT tenant_id, task_id FROM tasks
             WHERE state IN ('succeeded', 'failed', 'cancelled', 'expired', 'lost')
               AND updated_at < $1 ORDER BY updated_at LIMIT $2
         )",
        values![before, limit],
    )
    .await
}

fn read(row: &Row) -> Result<Task, StoreError> {
    let input = match row.opt_bytes("input_json")? {
        Some(bytes) => Payload::Json(
            json::Json::parse(bytes.into())
                .map_err(|error| StoreError::corrupt("column `input_json`", error))?,
        ),
        None => Payload::Blob(row.json("input_blob_json")?),
    };
    Ok(Task {
        tenant: row.parse("tenant_id")?,
        id: row.parse("task_id")?,
        agent_name: row.parse("agent_name")?,
        agent: row.opt_parse("agent_id")?,
        capability: row.text("capability")?,
        input,
        idempotency_key: row.opt_text("idempotency_key")?,
        request_hash: row.bytes("request_hash")?,
        state: row.parse("state")?,
        cancel: row.parse("cancel")?,
        attempt: row.count("attempt")?,
        instance_uuid: row.opt_text("instance_uuid")?,
        context: row.json("context_json")?,
        outcome: row.opt_json("outcome_json")?,
        caller: row.text("caller")?,
        deadline: row.opt_time("deadline")?,
        not_before: row.opt_time("not_before")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}
