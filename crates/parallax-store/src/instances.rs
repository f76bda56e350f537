//! Lease epochs of agent instances.

use parallax_core::time::Timestamp;

use crate::dialect;
use crate::error::StoreError;
use crate::tx::Tx;
use crate::value::values;

/// A new epoch for an instance, greater than any that an instance of any tenant ever had: so none
/// is used again, even after [`prune`] has forgotten the instance.
pub async fn next_epoch(
    tx: &mut Tx,
    instance_uuid: &str,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let tenant = tx.tenant()?;
    let epoch = dialect::next_epoch(tx).await?;
    tx.execute(
        "INSERT INTO instances (tenant_id, instance_uuid, epoch, last_seen_at)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant_id, instance_uuid) DO UPDATE
             SET epoch = excluded.epoch, last_seen_at = excluded.last_seen_at",
        values![tenant, instance_uuid, epoch, now],
    )
    .await?;
    Ok(epoch)
}

/// The instance's present epoch; `None` if it never had one or is forgotten.
pub async fn epoch(tx: &mut Tx, instance_uuid: &str) -> Result<Option<u64>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = "SELECT epoch FROM instances WHERE tenant_id = $1 AND instance_uuid = $2";
    tx.find(sql, values![tenant, instance_uuid], |row| {
        row.count("epoch")
    })
    .await
}

/// Whether the tenant has an instance that was given an epoch before `before`: one that may come
/// back to a server which was started then.
pub async fn any_before(tx: &mut Tx, before: Timestamp) -> Result<bool, StoreError> {
    let tenant = tx.tenant()?;
    let sql = "SELECT 1 AS one FROM instances WHERE tenant_id = $1 AND last_seen_at < $2 LIMIT 1";
    let found = tx.find(sql, values![tenant, before], |_| Ok(())).await?;
    Ok(found.is_some())
}

/// Forgets instances that were given no epoch since `before`; returns how many. System only.
pub async fn prune(tx: &mut Tx, before: Timestamp) -> Result<u64, StoreError> {
    tx.check_system("instance")?;
    tx.execute(
        "DELETE FROM instances WHERE last_seen_at < $1",
        values![before],
    )
    .await
}
