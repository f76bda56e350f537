//! Running copies of revisions.

use parallax_core::id::{AgentId, HostId, ReplicaId};
use parallax_core::manifest::{AgentSpec, Resources};
use parallax_core::replica::{Observation, Replica, Want};
use parallax_core::time::Timestamp;

use crate::error::StoreError;
use crate::row::Row;
use crate::tx::Tx;
use crate::value::{Json, values};

macro_rules! columns {
    () => {
        "tenant_id, replica_id, agent_id, revision_id, revision_number, host_id, build_id, want, \
         phase, reason, message, incarnation, restarts, exit_json, probe_ok, isolation, pid, \
         started_at, created_at, updated_at"
    };
}

/// Adds a replica.
pub async fn insert(tx: &mut Tx, replica: &Replica) -> Result<(), StoreError> {
    tx.check(replica.tenant, "replica")?;
    let observed = &replica.observed;
    tx.execute(
        concat!(
            "INSERT INTO replicas (",
            columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, \
             $17, $18, $19, $20)"
        ),
        values![
            replica.tenant,
            replica.id,
            replica.agent,
            replica.revision,
            replica.revision_number,
            replica.host,
            replica.build,
            replica.want,
            observed.phase,
            observed.reason,
            observed.message,
            observed.incarnation,
            observed.restarts,
            observed.exit.as_ref().map(Json),
            observed.probe_ok,
            observed.isolation,
            observed.pid,
            observed.started_at,
            replica.created_at,
            replica.updated_at,
        ],
    )
    .await?;
    Ok(())
}

/// The replica with this id.
pub async fn get(tx: &mut Tx, id: ReplicaId) -> Result<Option<Replica>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM replicas WHERE tenant_id = $1 AND replica_id = $2"
    );
    tx.find(sql, values![tenant, id], read).await
}

/// All replicas of an agent, oldest first, those that are over too.
pub async fn list_for_agent(tx: &mut Tx, agent: AgentId) -> Result<Vec<Replica>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM replicas WHERE tenant_id = $1 AND agent_id = $2 ORDER BY replica_id"
    );
    tx.list(sql, values![tenant, agent], read).await
}

/// All replicas on a host, of every tenant, oldest first. System only.
pub async fn list_for_host(tx: &mut Tx, host: HostId) -> Result<Vec<Replica>, StoreError> {
    tx.check_system("replica")?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM replicas WHERE host_id = $1 ORDER BY replica_id"
    );
    tx.list(sql, values![host], read).await
}

/// What replicas of one revision reserve on a host.
#[derive(Debug, Clone, PartialEq)]
pub struct Reserved {
    pub host: HostId,
    pub replicas: u32,
    /// Of each of them.
    pub resources: Resources,
}

/// What is reserved on hosts by the replicas that should run, of every tenant. System only.
pub async fn reserved(tx: &mut Tx) -> Result<Vec<Reserved>, StoreError> {
    tx.check_system("replica")?;
    let sql = "SELECT r.host_id, count(*) AS replicas, min(v.spec_json) AS spec_json
         FROM replicas r JOIN revisions v
             ON v.tenant_id = r.tenant_id AND v.revision_id = r.revision_id
         WHERE r.want = 'run' AND r.phase NOT IN ('stopped', 'failed', 'lost')
         GROUP BY r.host_id, r.tenant_id, r.revision_id
         ORDER BY r.host_id, r.tenant_id, r.revision_id";
    tx.list(sql, &[], |row| {
        let spec: AgentSpec = row.json("spec_json")?;
        Ok(Reserved {
            host: row.parse("host_id")?,
            replicas: row.count("replicas")?,
            resources: spec.resources,
        })
    })
    .await
}

/// Writes what is wanted of a replica.
///
/// # Errors
/// [`StoreError::NotFound`].
pub async fn set_want(
    tx: &mut Tx,
    id: ReplicaId,
    want: Want,
    now: Timestamp,
) -> Result<(), StoreError> {
    let tenant = tx.tenant()?;
    tx.execute_one(
        "replica",
        "UPDATE replicas SET want = $3, updated_at = $4 WHERE tenant_id = $1 AND replica_id = $2",
        values![tenant, id, want, now],
    )
    .await
}

/// Writes what a host observed of a replica.
///
/// # Errors
/// [`StoreError::NotFound`].
pub async fn set_observed(
    tx: &mut Tx,
    id: ReplicaId,
    observed: &Observation,
    now: Timestamp,
) -> Result<(), StoreError> {
    let tenant = tx.tenant()?;
    tx.execute_one(
        "replica",
        "UPDATE replicas SET phase = $3, reason = $4, message = $5, incarnation = $6,
             restarts = $7, exit_json = $8, probe_ok = $9, isolation = $10, pid = $11,
             started_at = $12, updated_at = $13
         WHERE tenant_id = $1 AND replica_id = $2",
        values![
            tenant,
            id,
            observed.phase,
            observed.reason,
            observed.message,
            observed.incarnation,
            observed.restarts,
            observed.exit.as_ref().map(Json),
            observed.probe_ok,
            observed.isolation,
            observed.pid,
            observed.started_at,
            now,
        ],
    )
    .await
}

/// Deletes a replica; whether there was one.
pub async fn delete(tx: &mut Tx, id: ReplicaId) -> Result<bool, StoreError> {
    let tenant = tx.tenant()?;
    let sql = "DELETE FROM replicas WHERE tenant_id = $1 AND replica_id = $2";
    Ok(tx.execute(sql, values![tenant, id]).await? == 1)
}

fn read(row: &Row) -> Result<Replica, StoreError> {
    Ok(Replica {
        tenant: row.parse("tenant_id")?,
        id: row.parse("replica_id")?,
        agent: row.parse("agent_id")?,
        revision: row.parse("revision_id")?,
        revision_number: row.count("revision_number")?,
        host: row.parse("host_id")?,
        build: row.parse("build_id")?,
        want: row.parse("want")?,
        observed: Observation {
            phase: row.parse("phase")?,
            reason: row.opt_parse("reason")?,
            message: row.text("message")?,
            incarnation: row.count("incarnation")?,
            restarts: row.count("restarts")?,
            exit: row.opt_json("exit_json")?,
            probe_ok: row.opt_int("probe_ok")?.map(|ok| ok != 0),
            isolation: row.text("isolation")?,
            pid: row.opt_count("pid")?,
            started_at: row.opt_time("started_at")?,
        },
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}
