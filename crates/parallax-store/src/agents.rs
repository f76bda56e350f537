//! Hosted agents.

use parallax_core::agent::{Agent, Deletion};
use parallax_core::id::{AgentId, TenantId};
use parallax_core::name::Name;
use parallax_core::status::{Phase, Status};
use parallax_core::time::Timestamp;

use crate::error::StoreError;
use crate::page::{Listed, Page};
use crate::row::Row;
use crate::tx::Tx;
use crate::value::{Json, values};

macro_rules! columns {
    () => {
        "tenant_id, agent_id, name, managed_by, generation, replicas, revision_id, suspended, \
         delete_asked_at, drain_until, phase, status_json, created_at, updated_at"
    };
}

/// Adds an agent.
///
/// # Errors
/// [`StoreError::Unique`] when the name is taken.
pub async fn insert(tx: &mut Tx, agent: &Agent) -> Result<(), StoreError> {
    tx.check(agent.tenant, "agent")?;
    tx.execute(
        concat!(
            "INSERT INTO agents (",
            columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
        ),
        values![
            agent.tenant,
            agent.id,
            agent.name,
            agent.managed_by,
            agent.generation,
            agent.replicas,
            agent.revision,
            agent.suspended,
            agent.delete.map(|deletion| deletion.asked_at),
            agent.delete.map(|deletion| deletion.drain_until),
            agent.status.phase,
            Json(&agent.status),
            agent.created_at,
            agent.updated_at,
        ],
    )
    .await?;
    Ok(())
}

/// The agent with this id.
pub async fn get(tx: &mut Tx, id: AgentId) -> Result<Option<Agent>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM agents WHERE tenant_id = $1 AND agent_id = $2"
    );
    tx.find(sql, values![tenant, id], read).await
}

/// The agent of this name.
pub async fn by_name(tx: &mut Tx, name: &Name) -> Result<Option<Agent>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM agents WHERE tenant_id = $1 AND name = $2"
    );
    tx.find(sql, values![tenant, name], read).await
}

/// Agents by name, all or those in `phase`; the key of a page is the name.
pub async fn list(
    tx: &mut Tx,
    phase: Option<Phase>,
    page: &Page,
) -> Result<Listed<Agent>, StoreError> {
    let tenant = tx.tenant()?;
    let agents = match phase {
        None => {
            let sql = concat!(
                "SELECT ",
                columns!(),
                " FROM agents WHERE tenant_id = $1 AND name > $2 ORDER BY name LIMIT $3"
            );
            tx.list(sql, values![tenant, page.ascending(), page.fetch()], read)
                .await?
        }
        Some(phase) => {
            let sql = concat!(
                "SELECT ",
                columns!(),
                " FROM agents WHERE tenant_id = $1 AND name > $2 AND phase = $4
                 ORDER BY name LIMIT $3"
            );
            tx.list(
                sql,
                values![tenant, page.ascending(), page.fetch(), phase],
                read,
            )
            .await?
        }
    };
    Ok(page.cut(agents))
}

/// The ids of every agent of every tenant. System only.
pub async fn ids_of_all(tx: &mut Tx) -> Result<Vec<(TenantId, AgentId)>, StoreError> {
    tx.check_system("agent")?;
    let sql = "SELECT tenant_id, agent_id FROM agents ORDER BY tenant_id, agent_id";
    tx.list(sql, &[], |row| {
        Ok((row.parse("tenant_id")?, row.parse("agent_id")?))
    })
    .await
}

/// The ids of the tenant's agents.
pub async fn ids(tx: &mut Tx) -> Result<Vec<AgentId>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = "SELECT agent_id FROM agents WHERE tenant_id = $1 ORDER BY agent_id";
    tx.list(sql, values![tenant], |row| row.parse("agent_id"))
        .await
}

/// How many agents are in a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    pub phase: Phase,
    /// Whether the phase rests on replicas that were not heard of since: see
    /// [`parallax_core::status::ReplicaCounts::unconfirmed`].
    pub unconfirmed: bool,
    pub agents: u64,
}

/// How many of the tenant's agents are in which phase; phases without any are left out.
pub async fn count(tx: &mut Tx) -> Result<Vec<Count>, StoreError> {
    let tenant = tx.tenant()?;
    // By the text of the field, which nothing else in the JSON can be: within a string its quotes
    // would be escaped. PostgreSQL's JSON functions refuse texts with a NUL, which messages may have.
    let sql = r#"SELECT phase,
             CAST(CASE WHEN status_json LIKE '%"unconfirmed":%'
                        AND status_json NOT LIKE '%"unconfirmed":0,%'
                       THEN 1 ELSE 0 END AS BIGINT) AS unconfirmed,
             count(*) AS agents
         FROM agents WHERE tenant_id = $1 GROUP BY 1, 2 ORDER BY 1, 2"#;
    tx.list(sql, values![tenant], |row| {
        Ok(Count {
            phase: row.parse("phase")?,
            unconfirmed: row.flag("unconfirmed")?,
            agents: row.count("agents")?,
        })
    })
    .await
}

/// Writes everything but the status, provided the stored generation is `expected`; whether it was.
/// A caller that changes what is wanted raises `agent.generation`.
pub async fn update(tx: &mut Tx, agent: &Agent, expected: u64) -> Result<bool, StoreError> {
    tx.check(agent.tenant, "agent")?;
    let changed = tx
        .execute(
            "UPDATE agents SET managed_by = $3, generation = $4, replicas = $5, revision_id = $6,
                 suspended = $7, delete_asked_at = $8, drain_until = $9, updated_at = $10
             WHERE tenant_id = $1 AND agent_id = $2 AND generation = $11",
            values![
                agent.tenant,
                agent.id,
                agent.managed_by,
                agent.generation,
                agent.replicas,
                agent.revision,
                agent.suspended,
                agent.delete.map(|deletion| deletion.asked_at),
                agent.delete.map(|deletion| deletion.drain_until),
                agent.updated_at,
                expected,
            ],
        )
        .await?;
    Ok(changed == 1)
}

/// Writes a derived status; touches nothing of what is wanted.
///
/// # Errors
/// [`StoreError::NotFound`].
pub async fn set_status(
    tx: &mut Tx,
    id: AgentId,
    status: &Status,
    now: Timestamp,
) -> Result<(), StoreError> {
    let tenant = tx.tenant()?;
    tx.execute_one(
        "agent",
        "UPDATE agents SET phase = $3, status_json = $4, updated_at = $5
         WHERE tenant_id = $1 AND agent_id = $2",
        values![tenant, id, status.phase, Json(status), now],
    )
    .await
}

/// Deletes the agent's own row and nothing else; whether there was one.
pub async fn delete(tx: &mut Tx, id: AgentId) -> Result<bool, StoreError> {
    let tenant = tx.tenant()?;
    let sql = "DELETE FROM agents WHERE tenant_id = $1 AND agent_id = $2";
    Ok(tx.execute(sql, values![tenant, id]).await? == 1)
}

fn read(row: &Row) -> Result<Agent, StoreError> {
    let delete = row
        .opt_time("delete_asked_at")?
        .zip(row.opt_time("drain_until")?);
    Ok(Agent {
        tenant: row.parse("tenant_id")?,
        id: row.parse("agent_id")?,
        name: row.parse("name")?,
        managed_by: row.parse("managed_by")?,
        generation: row.count("generation")?,
        replicas: row.count("replicas")?,
        revision: row.opt_parse("revision_id")?,
        suspended: row.flag("suspended")?,
        delete: delete.map(|(asked_at, drain_until)| Deletion {
            asked_at,
            drain_until,
        }),
        status: row.json("status_json")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}
