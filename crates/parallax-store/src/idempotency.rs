//! Answers to HTTP requests that carried an `Idempotency-Key`, to be given again.

use parallax_core::time::Timestamp;

use crate::error::StoreError;
use crate::tx::Tx;
use crate::value::values;

/// An answer that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The caller's key.
    pub key: String,
    /// Method and path, or a hash of them: a key speaks of one request only.
    pub route: String,
    /// Tells a repeated request from a different one under the same key.
    pub request_hash: Vec<u8>,
    /// The HTTP status.
    pub status: u16,
    pub content_type: String,
    pub body: Vec<u8>,
    pub expires_at: Timestamp,
}

/// The answer that was given for `key` on `route`, if it has not expired at `now`.
pub async fn get(
    tx: &mut Tx,
    key: &str,
    route: &str,
    now: Timestamp,
) -> Result<Option<Answer>, StoreError> {
    let tenant = tx.tenant()?;
    let sql = "SELECT idempotency_key, route, request_hash, status, content_type, body, expires_at
         FROM idempotency WHERE tenant_id = $1 AND idempotency_key = $2 AND route = $3
           AND expires_at > $4";
    tx.find(sql, values![tenant, key, route, now], |row| {
        Ok(Answer {
            key: row.text("idempotency_key")?,
            route: row.text("route")?,
            request_hash: row.bytes("request_hash")?,
            status: row.count("status")?,
            content_type: row.text("content_type")?,
            body: row.bytes("body")?,
            expires_at: row.time("expires_at")?,
        })
    })
    .await
}

/// Keeps an answer, in the transaction that did what it tells of. An answer that has expired at
/// `now` is replaced.
///
/// # Errors
/// [`StoreError::Unique`] when one that has not expired is kept already: another request with the
/// same key was faster. Read its answer.
pub async fn put(tx: &mut Tx, answer: &Answer, now: Timestamp) -> Result<(), StoreError> {
    let tenant = tx.tenant()?;
    tx.execute(
        "DELETE FROM idempotency WHERE tenant_id = $1 AND idempotency_key = $2 AND route = $3
           AND expires_at <= $4",
        values![tenant, answer.key, answer.route, now],
    )
    .await?;
    tx.execute(
        "INSERT INTO idempotency (tenant_id, idempotency_key, route, request_hash, status,
             content_type, body, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        values![
            tenant,
            answer.key,
            answer.route,
            answer.request_hash,
            answer.status,
            answer.content_type,
            answer.body,
            answer.expires_at,
        ],
    )
    .await?;
    Ok(())
}

/// Deletes what has expired at `now`; returns how many. System only.
pub async fn prune(tx: &mut Tx, now: Timestamp) -> Result<u64, StoreError> {
    tx.check_system("answer")?;
    tx.execute(
        "DELETE FROM idempotency WHERE expires_at <= $1",
        values![now],
    )
    .await
}
