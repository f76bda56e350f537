//! The embedded default.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqlitePool};
use tokio::sync::watch;

use super::Config;
use super::lock::LockFile;
use super::writer::Writer;
use crate::error::StoreError;
use crate::migrate;
use crate::tx::{Connection, Scope, Tx};

/// More than this crate has statements, so that each is prepared once per connection.
const STATEMENTS: usize = 256;

#[derive(Clone)]
pub(super) struct Sqlite {
    readers: SqlitePool,
    writer: Arc<Writer>,
}

impl Sqlite {
    pub(super) async fn open(
        path: &Path,
        config: &Config,
        events: watch::Sender<u64>,
    ) -> Result<Self, StoreError> {
        let lock = LockFile::take(path)?;
        create_private(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(config.busy_timeout)
            .statement_cache_capacity(STATEMENTS);
        let write_options = options
            .clone()
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let writing = write_options
            .connect()
            .await
            .map_err(|error| opening(path, error))?;
        let writing = migrate::sqlite(writing).await?;
        let readers = pool(config.connections, config)
            .min_connections(1)
            .connect_with(options.read_only(true))
            .await
            .map_err(|error| opening(path, error))?;
        let writer = Arc::new(Writer::start(
            writing,
            write_options,
            events,
            config.busy_timeout,
            lock,
        ));
        Ok(Self { readers, writer })
    }

    pub(super) fn writer(&self) -> &Writer {
        &self.writer
    }

    pub(super) async fn read(&self, scope: Scope) -> Result<Tx, StoreError> {
        let tx = self.readers.begin().await?;
        Ok(Tx::new(Connection::Sqlite(tx), scope))
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// A pool whose connections stay: opening one anew would cost every statement its preparation.
fn pool(connections: u32, config: &Config) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections.max(1))
        .acquire_timeout(config.busy_timeout)
        .max_lifetime(None)
        .idle_timeout(None)
        .test_before_acquire(false)
}

/// SQLite gives its other files the mode of the database's, so that this one settles them all.
fn create_private(path: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::setup_from(format!("{}", path.display()), error);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    file.set_permissions(Permissions::from_mode(0o600))
        .map_err(failed)
}

fn opening(path: &Path, error: sqlx::Error) -> StoreError {
    match StoreError::from(error) {
        StoreError::Other(source) => StoreError::Setup {
            what: format!("{} is not a database that can be opened", path.display()),
            source: Some(source),
        },
        other => other,
    }
}
