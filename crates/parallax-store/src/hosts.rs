//! Hosts that have joined.

use parallax_core::host::{Host, HostFacts};
use parallax_core::id::{HostId, TenantId};
use parallax_core::name::Name;
use parallax_core::time::Timestamp;

use crate::error::StoreError;
use crate::page::{Listed, Page};
use crate::row::Row;
use crate::tx::Tx;
use crate::value::{Json, values};

macro_rules! columns {
    () => {
        "tenant_id, host_id, name, facts_json, epoch, last_seen_at, created_at"
    };
}

/// Adds a host.
///
/// # Errors
/// [`StoreError::Unique`] when the name is taken.
pub async fn insert(tx: &mut Tx, host: &Host) -> Result<(), StoreError> {
    tx.check(host.tenant, "host")?;
    tx.execute(
        concat!(
            "INSERT INTO hosts (",
            columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7)"
        ),
        values![
            host.tenant,
            host.id,
            host.name,
            Json(&host.facts),
            host.epoch,
            host.last_seen_at,
            host.created_at,
        ],
    )
    .await?;
    Ok(())
}

/// The host with this id.
pub async fn get(tx: &mut Tx, id: HostId) -> Result<Option<Host>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM hosts WHERE tenant_id = $1 AND host_id = $2"
    );
    tx.find(sql, values![tenant, id], read).await
}

/// The host of this name.
pub async fn by_name(tx: &mut Tx, name: &Name) -> Result<Option<Host>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM hosts WHERE tenant_id = $1 AND name = $2"
    );
    tx.find(sql, values![tenant, name], read).await
}

/// Hosts by name; the key of a page is the name.
pub async fn list(tx: &mut Tx, page: &Page) -> Result<Listed<Host>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM hosts WHERE tenant_id = $1 AND name > $2 ORDER BY name LIMIT $3"
    );
    Ok(page.cut(
        tx.list(sql, values![tenant, page.ascending(), page.fetch()], read)
            .await?,
    ))
}

/// Every host of the tenant, by name.
pub async fn of_tenant(tx: &mut Tx) -> Result<Vec<Host>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM hosts WHERE tenant_id = $1 ORDER BY name"
    );
    tx.list(sql, values![tenant], read).await
}

/// Every host of every tenant. System only.
pub async fn list_all(tx: &mut Tx) -> Result<Vec<Host>, StoreError> {
    tx.check_system("host")?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM hosts ORDER BY tenant_id, host_id"
    );
    tx.list(sql, &[], read).await
}

/// Writes what a host says of itself.
///
/// # Errors
/// [`StoreError::NotFound`].
pub async fn set_facts(
    tx: &mut Tx,
    id: HostId,
    facts: &HostFacts,
    now: Timestamp,
) -> Result<(), StoreError> {
    let tenant = tx.tenant()?;
    tx.execute_one(
        "host",
        "UPDATE hosts SET facts_json = $3, last_seen_at = $4
         WHERE tenant_id = $1 AND host_id = $2",
        values![tenant, id, Json(facts), now],
    )
    .await
}

/// Raises the host's epoch for a new session, and returns it.
///
/// # Errors
/// [`StoreError::NotFound`].
pub async fn next_epoch(tx: &mut Tx, id: HostId, now: Timestamp) -> Result<u64, StoreError> {
    let tenant = tx.tenant()?;
    let sql = "UPDATE hosts SET epoch = epoch + 1, last_seen_at = $3
         WHERE tenant_id = $1 AND host_id = $2 RETURNING epoch";
    tx.find(sql, values![tenant, id, now], |row| row.count("epoch"))
        .await?
        .ok_or(StoreError::NotFound("host"))
}

/// Notes that a host was heard of. One that is gone meanwhile is no error. System or tenant.
pub async fn touch_seen(
    tx: &mut Tx,
    tenant: TenantId,
    id: HostId,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.check(tenant, "host")?;
    let sql = "UPDATE hosts SET last_seen_at = $3 WHERE tenant_id = $1 AND host_id = $2";
    tx.execute(sql, values![tenant, id, now]).await?;
    Ok(())
}

/// Deletes a host's own row; whether there was one.
pub async fn delete(tx: &mut Tx, id: HostId) -> Result<bool, StoreError> {
    let tenant = tx.tenant()?;
    let sql = "DELETE FROM hosts WHERE tenant_id = $1 AND host_id = $2";
    Ok(tx.execute(sql, values![tenant, id]).await? == 1)
}

fn read(row: &Row) -> Result<Host, StoreError> {
    Ok(Host {
        tenant: row.parse("tenant_id")?,
        id: row.parse("host_id")?,
        name: row.parse("name")?,
        facts: row.json("facts_json")?,
        epoch: row.count("epoch")?,
        last_seen_at: row.time("last_seen_at")?,
        created_at: row.time("created_at")?,
    })
}
