//! Preparations of revisions on hosts. A build belongs to whoever needs its key: two agents of a
//! tenant with the same source and settings share one.

use std::collections::HashSet;

use parallax_core::build::Build;
use parallax_core::id::{AgentId, BuildId, HostId};
use parallax_core::name::Name;
use sha2::{Digest, Sha256};

use crate::error::StoreError;
use crate::row::Row;
use crate::tx::Tx;
use crate::value::{Json, values};

macro_rules! columns {
    () => {
        "tenant_id, build_id, agent_id, agent_name, host_id, build_key, key_digest, \
         source_digest, source_bytes, spec_json, phase, reason, message, plan_json, cached, \
         cancel_requested, created_at, started_at, ended_at"
    };
}

/// Adds a build.
///
/// # Errors
/// [`StoreError::Unique`] when the host has a build with this key; see [`by_key`].
pub async fn insert(tx: &mut Tx, build: &Build) -> Result<(), StoreError> {
    tx.check(build.tenant, "build")?;
    tx.execute(
        concat!(
            "INSERT INTO builds (",
            columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, \
             $17, $18, $19)"
        ),
        values![
            build.tenant,
            build.id,
            build.agent,
            build.agent_name,
            build.host,
            build.key,
            key_digest(&build.key),
            build.source_digest,
            build.source_bytes,
            Json(&build.spec),
            build.phase,
            build.reason,
            build.message,
            build.plan_json,
            build.cached,
            build.cancel_requested,
            build.created_at,
            build.started_at,
            build.ended_at,
        ],
    )
    .await?;
    Ok(())
}

/// The build with this id.
pub async fn get(tx: &mut Tx, id: BuildId) -> Result<Option<Build>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM builds WHERE tenant_id = $1 AND build_id = $2"
    );
    tx.find(sql, values![tenant, id], read).await
}

/// The build of `key` on `host`.
pub async fn by_key(tx: &mut Tx, host: HostId, key: &str) -> Result<Option<Build>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM builds WHERE tenant_id = $1 AND host_id = $2 AND key_digest = $3"
    );
    tx.find(sql, values![tenant, host, key_digest(key)], read)
        .await
}

/// The builds of `key` on every host: those of a revision, by its `build_key`.
pub async fn list_for_key(tx: &mut Tx, key: &str) -> Result<Vec<Build>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM builds WHERE tenant_id = $1 AND key_digest = $2 ORDER BY build_id"
    );
    tx.list(sql, values![tenant, key_digest(key)], read).await
}

/// The plans, each with its build's key, of the wanted revisions of the agents whose names lie
/// between these two, both included.
pub async fn plans_between(
    tx: &mut Tx,
    (first, last): (&Name, &Name),
) -> Result<Vec<(String, String)>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = "SELECT build_key, plan_json FROM builds
         WHERE tenant_id = $1 AND plan_json IS NOT NULL AND build_key IN (
             SELECT build_key FROM revisions WHERE tenant_id = $1 AND revision_id IN (
                 SELECT revision_id FROM agents WHERE tenant_id = $1 AND name >= $2 AND name <= $3
             )
         )";
    tx.list(sql, values![tenant, first, last], |row| {
        Ok((row.text("build_key")?, row.text("plan_json")?))
    })
    .await
}

/// The builds that were made for an agent, newest first, at most `limit`.
pub async fn list_for_agent(
    tx: &mut Tx,
    agent: AgentId,
    limit: u32,
) -> Result<Vec<Build>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM builds WHERE tenant_id = $1 AND agent_id = $2 ORDER BY build_id DESC LIMIT $3"
    );
    tx.list(sql, values![tenant, agent, limit], read).await
}

/// The builds of a host that have not ended, of every tenant, oldest first. System only.
pub async fn list_active(tx: &mut Tx, host: HostId) -> Result<Vec<Build>, StoreError> {
    tx.check_system("build")?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM builds WHERE host_id = $1 AND phase NOT IN ('succeeded', 'failed', 'cancelled')
         ORDER BY build_id"
    );
    tx.list(sql, values![host], read).await
}

/// The builds on a host that have succeeded, oldest first.
pub async fn list_prepared(tx: &mut Tx, host: HostId) -> Result<Vec<Build>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM builds WHERE tenant_id = $1 AND host_id = $2 AND phase = 'succeeded'
         ORDER BY build_id"
    );
    tx.list(sql, values![tenant, host], read).await
}

/// The builds on a host that the revisions of today need: of each agent the one it should run.
pub async fn list_current(tx: &mut Tx, host: HostId) -> Result<Vec<BuildId>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = "SELECT r.build_key FROM agents a
         JOIN revisions r ON r.tenant_id = a.tenant_id AND r.revision_id = a.revision_id
         WHERE a.tenant_id = $1";
    let read = |row: &Row| Ok(key_digest(&row.text("build_key")?));
    let keys = tx.list(sql, values![tenant], read).await?;
    let keys: HashSet<String> = keys.into_iter().collect();
    let sql = "SELECT build_id, key_digest FROM builds WHERE tenant_id = $1 AND host_id = $2";
    let read = |row: &Row| Ok((row.parse("build_id")?, row.text("key_digest")?));
    let builds: Vec<(BuildId, String)> = tx.list(sql, values![tenant, host], read).await?;
    let current = builds.into_iter().filter(|(_, key)| keys.contains(key));
    Ok(current.map(|(id, _)| id).collect())
}

/// Writes how far a build has come: phase, reason, message, plan, cached, cancel, its times.
/// Says nothing about whether the phase may follow the stored one: read it in the same transaction.
///
/// # Errors
/// [`StoreError::NotFound`].
pub async fn update_progress(tx: &mut Tx, build: &Build) -> Result<(), StoreError> {
    tx.check(build.tenant, "build")?;
    tx.execute_one(
        "build",
        "UPDATE builds SET phase = $3, reason = $4, message = $5, plan_json = $6, cached = $7,
             cancel_requested = $8, started_at = $9, ended_at = $10
         WHERE tenant_id = $1 AND build_id = $2",
        values![
            build.tenant,
            build.id,
            build.phase,
            build.reason,
            build.message,
            build.plan_json,
            build.cached,
            build.cancel_requested,
            build.started_at,
            build.ended_at,
        ],
    )
    .await
}

/// Deletes one build, so that its key can be built anew; whether there was one.
pub async fn delete(tx: &mut Tx, id: BuildId) -> Result<bool, StoreError> {
    let tenant = tx.tenant()?;
    let sql = "DELETE FROM builds WHERE tenant_id = $1 AND build_id = $2";
    Ok(tx.execute(sql, values![tenant, id]).await? == 1)
}

/// Deletes the builds that were made for an agent and that no revision of another one needs;
/// returns how many. Call it before the agent's own revisions go or after, it is the same.
pub async fn delete_for_agent(tx: &mut Tx, agent: AgentId) -> Result<u64, StoreError> {
    let tenant = tx.tenant()?;
    tx.execute(
        "DELETE FROM builds WHERE tenant_id = $1 AND agent_id = $2 AND NOT EXISTS (
             SELECT 1 FROM revisions r
             WHERE r.tenant_id = builds.tenant_id AND r.source_digest = builds.source_digest
               AND r.build_key = builds.build_key AND r.agent_id <> builds.agent_id
         )",
        values![tenant, agent],
    )
    .await
}

fn key_digest(key: &str) -> String {
    Sha256::digest(key)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn read(row: &Row) -> Result<Build, StoreError> {
    Ok(Build {
        tenant: row.parse("tenant_id")?,
        id: row.parse("build_id")?,
        agent: row.parse("agent_id")?,
        agent_name: row.parse("agent_name")?,
        host: row.parse("host_id")?,
        key: row.text("build_key")?,
        source_digest: row.text("source_digest")?,
        source_bytes: row.count("source_bytes")?,
        spec: row.json("spec_json")?,
        phase: row.parse("phase")?,
        reason: row.opt_parse("reason")?,
        message: row.text("message")?,
        plan_json: row.opt_text("plan_json")?,
        cached: row.flag("cached")?,
        cancel_requested: row.flag("cancel_requested")?,
        created_at: row.time("created_at")?,
        started_at: row.opt_time("started_at")?,
        ended_at: row.opt_time("ended_at")?,
    })
}
