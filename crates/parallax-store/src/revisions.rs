//! Immutable versions of agents.

use parallax_core::agent::Revision;
use parallax_core::id::{AgentId, RevisionId};
use parallax_core::name::Name;

use crate::error::StoreError;
use crate::page::{Listed, Page};
use crate::row::Row;
use crate::tx::Tx;
use crate::value::{Json, values};

macro_rules! columns {
    () => {
        "tenant_id, revision_id, agent_id, number, spec_json, source_digest, source_bytes, \
         build_key, created_at, created_by"
    };
}

/// Adds a revision under the agent's next number, which is returned; `revision.number` is ignored.
pub async fn insert(tx: &mut Tx, revision: &Revision) -> Result<u64, StoreError> {
    tx.check(revision.tenant, "revision")?;
    let row = tx
        .fetch_one(
            concat!(
                "INSERT INTO revisions (",
                columns!(),
                ") SELECT $1, $2, $3, (
                     SELECT COALESCE(MAX(number), 0) + 1 FROM revisions
                     WHERE tenant_id = $1 AND agent_id = $3
                 ), $4, $5, $6, $7, $8, $9 RETURNING number"
            ),
            values![
                revision.tenant,
                revision.id,
                revision.agent,
                Json(&revision.spec),
                revision.source_digest,
                revision.source_bytes,
                revision.build_key,
                revision.created_at,
                revision.created_by,
            ],
        )
        .await?;
    row.count("number")
}

/// The revision with this id.
pub async fn get(tx: &mut Tx, id: RevisionId) -> Result<Option<Revision>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM revisions WHERE tenant_id = $1 AND revision_id = $2"
    );
    tx.find(sql, values![tenant, id], read).await
}

/// The wanted revisions of the agents whose names lie between these two, both included.
pub async fn wanted_between(
    tx: &mut Tx,
    (first, last): (&Name, &Name),
) -> Result<Vec<Revision>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM revisions WHERE tenant_id = $1 AND revision_id IN (
             SELECT revision_id FROM agents WHERE tenant_id = $1 AND name >= $2 AND name <= $3
         )"
    );
    tx.list(sql, values![tenant, first, last], read).await
}

/// The agent's revision with this number.
pub async fn by_number(
    tx: &mut Tx,
    agent: AgentId,
    number: u64,
) -> Result<Option<Revision>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM revisions WHERE tenant_id = $1 AND agent_id = $2 AND number = $3"
    );
    tx.find(sql, values![tenant, agent, number], read).await
}

/// The agent's newest revision.
pub async fn latest(tx: &mut Tx, agent: AgentId) -> Result<Option<Revision>, StoreError> {
    Ok(list(tx, agent, None, 1).await?.items.pop())
}

/// The agent's revisions, newest first, those before the number `before` if one is given.
pub async fn list(
    tx: &mut Tx,
    agent: AgentId,
    before: Option<u64>,
    limit: u32,
) -> Result<Listed<Revision>, StoreError> {
    let tenant = tx.tenant()?;
    let page = Page::first(limit);
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM revisions WHERE tenant_id = $1 AND agent_id = $2 AND number < $3
         ORDER BY number DESC LIMIT $4"
    );
    let before = before.unwrap_or(u64::MAX);
    Ok(page.cut(
        tx.list(sql, values![tenant, agent, before, page.fetch()], read)
            .await?,
    ))
}

/// Deletes all revisions of an agent; returns how many there were.
pub async fn delete_for_agent(tx: &mut Tx, agent: AgentId) -> Result<u64, StoreError> {
    let tenant = tx.tenant()?;
    let sql = "DELETE FROM revisions WHERE tenant_id = $1 AND agent_id = $2";
    tx.execute(sql, values![tenant, agent]).await
}

fn read(row: &Row) -> Result<Revision, StoreError> {
    Ok(Revision {
        tenant: row.parse("tenant_id")?,
        id: row.parse("revision_id")?,
        agent: row.parse("agent_id")?,
        number: row.count("number")?,
        spec: row.json("spec_json")?,
        source_digest: row.text("source_digest")?,
        source_bytes: row.count("source_bytes")?,
        build_key: row.text("build_key")?,
        created_at: row.time("created_at")?,
        created_by: row.text("created_by")?,
    })
}
