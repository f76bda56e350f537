//! What is known of the source archives in the blob store.

use std::collections::HashSet;

use parallax_core::id::TenantId;
use parallax_core::time::Timestamp;

use crate::error::StoreError;
use crate::tx::Tx;
use crate::value::values;

/// A stored source archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub tenant: TenantId,
    /// `sha256:…`
    pub digest: String,
    pub size_bytes: u64,
    /// When it was last uploaded: an upload of what is there already counts as new, so that it is
    /// not collected between the upload and its first use.
    pub created_at: Timestamp,
}

/// Notes a source that is in the blob store.
pub async fn put(tx: &mut Tx, source: &Source) -> Result<(), StoreError> {
    tx.check(source.tenant, "source")?;
    tx.execute(
        "INSERT INTO sources (tenant_id, digest, size_bytes, created_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant_id, digest) DO UPDATE SET created_at = excluded.created_at",
        values![
            source.tenant,
            source.digest,
            source.size_bytes,
            source.created_at
        ],
    )
    .await?;
    Ok(())
}

/// The size in bytes of a source; `None` if there is none with this digest.
pub async fn size(tx: &mut Tx, digest: &str) -> Result<Option<u64>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = "SELECT size_bytes FROM sources WHERE tenant_id = $1 AND digest = $2";
    tx.find(sql, values![tenant, digest], |row| row.count("size_bytes"))
        .await
}

/// Whether a source is stored.
pub async fn exists(tx: &mut Tx, digest: &str) -> Result<bool, StoreError> {
    Ok(size(tx, digest).await?.is_some())
}

/// The digests of the tenant's sources, and of the revisions and builds that name one, between
/// these two, the second excluded; in no order.
pub async fn known_between(
    tx: &mut Tx,
    (first, end): (&str, &str),
) -> Result<HashSet<String>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = "SELECT digest FROM sources
           WHERE tenant_id = $1 AND digest >= $2 AND digest < $3
         UNION SELECT source_digest FROM revisions
           WHERE tenant_id = $1 AND source_digest >= $2 AND source_digest < $3
         UNION SELECT source_digest FROM builds
           WHERE tenant_id = $1 AND source_digest >= $2 AND source_digest < $3
             AND phase NOT IN ('succeeded', 'failed', 'cancelled')";
    let digests = tx
        .list(sql, values![tenant, first, end], |row| row.text("digest"))
        .await?;
    Ok(digests.into_iter().collect())
}

/// How many revisions, and builds that have not ended, need a source.
pub async fn references(tx: &mut Tx, digest: &str) -> Result<u64, StoreError> {
    let tenant = tx.tenant()?;
    let sql = "SELECT
             (SELECT COUNT(*) FROM revisions WHERE tenant_id = $1 AND source_digest = $2)
           + (SELECT COUNT(*) FROM builds WHERE tenant_id = $1 AND source_digest = $2
                AND phase NOT IN ('succeeded', 'failed', 'cancelled')) AS needed";
    tx.fetch_one(sql, values![tenant, digest])
        .await?
        .count("needed")
}

/// Sources of every tenant that nothing needs and that were uploaded before `before`, at most
/// `limit`. System only.
pub async fn unreferenced(
    tx: &mut Tx,
    before: Timestamp,
    limit: u32,
) -> Result<Vec<Source>, StoreError> {
    tx.check_system("source")?;
    let sql = "SELECT tenant_id, digest, size_bytes, created_at FROM sources s
         WHERE created_at < $1
           AND NOT EXISTS (
             SELECT 1 FROM revisions r
             WHERE r.tenant_id = s.tenant_id AND r.source_digest = s.digest
           )
           AND NOT EXISTS (
             SELECT 1 FROM builds b WHERE b.tenant_id = s.tenant_id AND b.source_digest = s.digest
               AND b.phase NOT IN ('succeeded', 'failed', 'cancelled')
           )
         ORDER BY tenant_id, digest LIMIT $2";
    tx.list(sql, values![before, limit], |row| {
        Ok(Source {
            tenant: row.parse("tenant_id")?,
            digest: row.text("digest")?,
            size_bytes: row.count("size_bytes")?,
            created_at: row.time("created_at")?,
        })
    })
    .await
}

/// Forgets a source, after which its blob may be deleted; whether it was known.
pub async fn delete(tx: &mut Tx, digest: &str) -> Result<bool, StoreError> {
    let tenant = tx.tenant()?;
    let sql = "DELETE FROM sources WHERE tenant_id = $1 AND digest = $2";
    Ok(tx.execute(sql, values![tenant, digest]).await? == 1)
}
