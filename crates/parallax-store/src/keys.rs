//! API keys, by their keyed hashes.

use parallax_core::id::{KeyId, TenantId};
use parallax_core::key::ApiKey;
use parallax_core::time::Timestamp;

use crate::error::StoreError;
use crate::page::{Listed, Page};
use crate::row::Row;
use crate::tx::Tx;
use crate::value::{Json, values};

macro_rules! columns {
    () => {
        "tenant_id, key_id, name, hash, scopes, groups_json, host_id, single_use, created_at, \
         expires_at, revoked_at, last_used_at"
    };
}

/// Adds a key.
///
/// # Errors
/// [`StoreError::Unique`] when a key that is not revoked has the name.
pub async fn insert(tx: &mut Tx, key: &ApiKey) -> Result<(), StoreError> {
    tx.check(key.tenant, "key")?;
    tx.execute(
        concat!(
            "INSERT INTO keys (",
            columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
        ),
        values![
            key.tenant,
            key.id,
            key.name,
            key.hash,
            key.scopes,
            Json(&key.groups),
            key.host,
            key.single_use,
            key.created_at,
            key.expires_at,
            key.revoked_at,
            key.last_used_at,
        ],
    )
    .await?;
    Ok(())
}

/// The key with this id, whichever tenant's. System only: this is how a caller's tenant is found.
pub async fn get(tx: &mut Tx, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
    tx.check_system("key")?;
    let sql = concat!("SELECT ", columns!(), " FROM keys WHERE key_id = $1");
    tx.find(sql, values![id], read).await
}

/// Keys by id, which is by age, revoked ones too; the key of a page is the id.
pub async fn list(tx: &mut Tx, page: &Page) -> Result<Listed<ApiKey>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM keys WHERE tenant_id = $1 AND key_id > $2 ORDER BY key_id LIMIT $3"
    );
    Ok(page.cut(
        tx.list(sql, values![tenant, page.ascending(), page.fetch()], read)
            .await?,
    ))
}

/// Revokes a key from `now` on; a key that is revoked already keeps its time.
///
/// # Errors
/// [`StoreError::NotFound`].
pub async fn revoke(tx: &mut Tx, id: KeyId, now: Timestamp) -> Result<(), StoreError> {
    let tenant = tx.tenant()?;
    tx.execute_one(
        "key",
        "UPDATE keys SET revoked_at = COALESCE(revoked_at, $3)
         WHERE tenant_id = $1 AND key_id = $2",
        values![tenant, id, now],
    )
    .await
}

/// Notes that a key was used. A key that is gone meanwhile is no error. System or tenant.
pub async fn touch_last_used(
    tx: &mut Tx,
    tenant: TenantId,
    id: KeyId,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.check(tenant, "key")?;
    tx.execute(
        "UPDATE keys SET last_used_at = $3 WHERE tenant_id = $1 AND key_id = $2",
        values![tenant, id, now],
    )
    .await?;
    Ok(())
}

/// Uses a single-use key up, by revoking it; whether this call was the one that did.
pub async fn consume_single_use(
    tx: &mut Tx,
    tenant: TenantId,
    id: KeyId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    tx.check(tenant, "key")?;
    let changed = tx
        .execute(
            "UPDATE keys SET revoked_at = $3, last_used_at = $3
             WHERE tenant_id = $1 AND key_id = $2 AND single_use = 1 AND revoked_at IS NULL",
            values![tenant, id, now],
        )
        .await?;
    Ok(changed == 1)
}

fn read(row: &Row) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        tenant: row.parse("tenant_id")?,
        id: row.parse("key_id")?,
        name: row.parse("name")?,
        hash: row.bytes("hash")?,
        scopes: row.parse("scopes")?,
        groups: row.json("groups_json")?,
        host: row.opt_parse("host_id")?,
        single_use: row.flag("single_use")?,
        created_at: row.time("created_at")?,
        expires_at: row.opt_time("expires_at")?,
        revoked_at: row.opt_time("revoked_at")?,
        last_used_at: row.opt_time("last_used_at")?,
    })
}
