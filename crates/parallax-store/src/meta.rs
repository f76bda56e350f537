//! A few facts about the installation itself. System only; no secrets in clear.

use crate::error::StoreError;
use crate::tx::Tx;
use crate::value::values;

/// The fact called `name`.
pub async fn get(tx: &mut Tx, name: &str) -> Result<Option<String>, StoreError> {
    tx.check_system("fact")?;
    tx.find(
        "SELECT value FROM meta WHERE name = $1",
        values![name],
        |row| row.text("value"),
    )
    .await
}

/// Writes a fact, in place of one that is there.
pub async fn set(tx: &mut Tx, name: &str, value: &str) -> Result<(), StoreError> {
    tx.check_system("fact")?;
    tx.execute(
        "INSERT INTO meta (name, value) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        values![name, value],
    )
    .await?;
    Ok(())
}
