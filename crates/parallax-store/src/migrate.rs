//! Migrations: forward only, embedded, checked at every start.

use sha2::{Digest, Sha256};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Postgres, Transaction};

use crate::error::StoreError;
use crate::tx::{Connection, Scope, Tx};
use crate::value::values;

/// One version of the schema, as each database wants it.
struct Migration {
    version: i64,
    sqlite: &'static str,
    postgres: &'static str,
}

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    sqlite: include_str!("../migrations/sqlite/0001_init.sql"),
    postgres: include_str!("../migrations/postgres/0001_init.sql"),
}];

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS schema_version (
    version BIGINT NOT NULL PRIMARY KEY, checksum TEXT NOT NULL)";

/// Migrates a SQLite database, in one transaction, and hands the connection back.
pub(crate) async fn sqlite(connection: SqliteConnection) -> Result<SqliteConnection, StoreError> {
    let mut tx = Tx::new(Connection::SqliteWriter(connection), Scope::System);
    tx.execute("BEGIN IMMEDIATE", &[]).await?;
    migrate(&mut tx, |migration| migration.sqlite).await?;
    tx.execute("COMMIT", &[]).await?;
    match tx.connection {
        Connection::SqliteWriter(connection) => Ok(connection),
        Connection::Sqlite(_) | Connection::Postgres(_) => {
            unreachable!("a transaction keeps its kind of connection")
        }
    }
}

/// Migrates a PostgreSQL database, in one transaction of the owner's.
pub(crate) async fn postgres(tx: Transaction<'static, Postgres>) -> Result<(), StoreError> {
    let mut tx = Tx::new(Connection::Postgres(tx), Scope::System);
    migrate(&mut tx, |migration| migration.postgres).await?;
    tx.commit().await
}

async fn migrate(tx: &mut Tx, text: fn(&Migration) -> &'static str) -> Result<(), StoreError> {
    tx.script(VERSIONS).await?;
    let applied = tx
        .list(
            "SELECT version, checksum FROM schema_version ORDER BY version",
            &[],
            |row| Ok((row.int("version")?, row.text("checksum")?)),
        )
        .await?;
    let known = MIGRATIONS.last().map_or(0, |migration| migration.version);
    if let Some(&(found, _)) = applied.last().filter(|(version, _)| *version > known) {
        return Err(StoreError::NewerSchema { found, known });
    }
    for migration in MIGRATIONS {
        let checksum = checksum(text(migration));
        match applied
            .iter()
            .find(|(version, _)| *version == migration.version)
        {
            Some((_, found)) if *found == checksum => {}
            Some((version, _)) => {
                let what = format!("schema version {version} differs from this program's");
                return Err(StoreError::Corrupt { what, source: None });
            }
            None => {
                tx.script(text(migration)).await?;
                tx.execute(
                    "INSERT INTO schema_version (version, checksum) VALUES ($1, $2)",
                    values![migration.version, checksum],
                )
                .await?;
            }
        }
    }
    Ok(())
}

fn checksum(text: &str) -> String {
    Sha256::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
