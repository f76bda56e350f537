//! Opening a database, and running transactions on it.

mod lock;
mod postgres;
mod sqlite;
mod writer;

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use parallax_core::id::TenantId;
use tokio::sync::watch;

use crate::error::StoreError;
use crate::tx::{Scope, Tx};

/// What a closure that is given to [`Store::write`] returns: its work, borrowing the transaction
/// and what was given.
pub type Work<'t, T, E> = BoxFuture<'t, Result<T, E>>;

/// Which database, and how patiently.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// `sqlite:PATH` or `postgres://…`.
    pub url: String,
    /// How long a statement waits for a lock, and a call for its turn.
    pub busy_timeout: Duration,
    /// Most transactions that read at the same time; on PostgreSQL also most that write.
    pub connections: u32,
}

impl Config {
    /// Long enough for another process's checkpoint or backup, short enough for a person.
    const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
    /// More readers than cores gain nothing on SQLite; PostgreSQL's own default allows 100.
    const CONNECTIONS: u32 = 8;

    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            busy_timeout: Self::BUSY_TIMEOUT,
            connections: Self::CONNECTIONS,
        }
    }
}

impl fmt::Debug for Config {
    /// Leaves the URL out, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("busy_timeout", &self.busy_timeout)
            .finish_non_exhaustive()
    }
}

/// An open database, held by this server alone. Cheap to clone; closed by [`Store::close`], or
/// when the last clone goes.
#[derive(Clone)]
pub struct Store {
    driver: Driver,
    events: watch::Sender<u64>,
}

#[derive(Clone)]
enum Driver {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres::Postgres),
}

impl Store {
    /// Opens the database, creates it if it is a file that does not exist, takes the lock that
    /// keeps other servers away, and migrates it to this program's schema.
    ///
    /// # Errors
    /// [`StoreError::AlreadyServed`], [`StoreError::NewerSchema`], [`StoreError::Unavailable`]
    /// while another process holds it, [`StoreError::Setup`] when it cannot be opened as it is.
    pub async fn open(config: &Config) -> Result<Self, StoreError> {
        let (events, _) = watch::channel(0);
        let driver = match Url::parse(&config.url)? {
            Url::Sqlite(path) => {
                Driver::Sqlite(sqlite::Sqlite::open(path, config, events.clone()).await?)
            }
            Url::Postgres(url) => {
                Driver::Postgres(postgres::Postgres::open(url, config, events.clone()).await?)
            }
        };
        Ok(Self { driver, events })
    }

    /// Runs `work` in a transaction of `tenant` and returns once it is committed; rolled back when
    /// `work` fails. `work` may run more than once and must await nothing but the database:
    /// on SQLite every other writer waits for it.
    ///
    /// ```ignore
    /// store.write(tenant, (agent, event), |tx, (agent, event)| Box::pin(async move {
    ///     agents::insert(tx, agent).await?;
    ///     events::append(tx, event).await
    /// })).await?;
    /// ```
    ///
    /// A call that is dropped may or may not have been committed. A statement that failed dooms
    /// the transaction, even when `work` goes on and returns `Ok`.
    ///
    /// # Errors
    /// What `work` returns, or why the transaction could not begin or be committed.
    pub async fn write<S, T, E, F>(&self, tenant: TenantId, given: S, work: F) -> Result<T, E>
    where
        S: Send + Sync + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'t> FnMut(&'t mut Tx, &'t S) -> Work<'t, T, E> + Send + 'static,
    {
        self.run(Scope::Tenant(tenant), given, work).await
    }

    /// Like [`Store::write`], across all tenants: for sign-in and the server's own jobs. On
    /// PostgreSQL it keeps every other write out meanwhile.
    ///
    /// # Errors
    /// See [`Store::write`].
    pub async fn system_write<S, T, E, F>(&self, given: S, work: F) -> Result<T, E>
    where
        S: Send + Sync + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'t> FnMut(&'t mut Tx, &'t S) -> Work<'t, T, E> + Send + 'static,
    {
        self.run(Scope::System, given, work).await
    }

    async fn run<S, T, E, F>(&self, scope: Scope, given: S, work: F) -> Result<T, E>
    where
        S: Send + Sync + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'t> FnMut(&'t mut Tx, &'t S) -> Work<'t, T, E> + Send + 'static,
    {
        match &self.driver {
            Driver::Sqlite(sqlite) => sqlite.writer().run(scope, given, work).await,
            Driver::Postgres(postgres) => postgres.run(scope, &given, work).await,
        }
    }

    /// Begins a transaction of `tenant` that only reads, on a snapshot of its own. Hold it
    /// briefly: there are only [`Config::connections`] of them. Ends when it is dropped.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when no connection becomes free, or the database is away.
    pub async fn read(&self, tenant: TenantId) -> Result<Tx, StoreError> {
        self.begin_read(Scope::Tenant(tenant)).await
    }

    /// Like [`Store::read`], across all tenants.
    ///
    /// # Errors
    /// See [`Store::read`].
    pub async fn system_read(&self) -> Result<Tx, StoreError> {
        self.begin_read(Scope::System).await
    }

    async fn begin_read(&self, scope: Scope) -> Result<Tx, StoreError> {
        match &self.driver {
            Driver::Sqlite(sqlite) => sqlite.read(scope).await,
            Driver::Postgres(postgres) => postgres.read(scope).await,
        }
    }

    /// Changes whenever events may have been appended. A wake-up, not a cursor: read the events
    /// after your own cursor. Wake-ups may be spurious, and on PostgreSQL there is one every few
    /// seconds in any case, in place of one that was lost with a connection.
    #[must_use]
    pub fn events_changed(&self) -> watch::Receiver<u64> {
        self.events.subscribe()
    }

    /// Returns when the lock on the database is lost, as happens when PostgreSQL restarts: the
    /// server must stop then, for another may start. From then on every transaction is refused.
    /// Never returns on SQLite, whose lock ends with the process.
    pub async fn lost(&self) {
        match &self.driver {
            Driver::Sqlite(_) => std::future::pending().await,
            Driver::Postgres(postgres) => postgres.lost().await,
        }
    }

    /// Commits a write that changes nothing: a database that is locked, away or read-only refuses it
    /// like any other. On a full disk there may still be room for so small a one.
    ///
    /// # Errors
    /// [`StoreError::StorageFull`], [`StoreError::Unavailable`] and whatever else the database says.
    pub async fn check_writable(&self) -> Result<(), StoreError> {
        self.system_write((), |tx, ()| {
            Box::pin(async move {
                let sql = "UPDATE tenants SET events_pruned_to = events_pruned_to
                     WHERE tenant_id = (SELECT min(tenant_id) FROM tenants)";
                tx.execute(sql, &[]).await.map(drop)
            })
        })
        .await
    }

    /// Ends what was begun, closes every connection and gives the lock back.
    pub async fn close(&self) {
        match &self.driver {
            Driver::Sqlite(sqlite) => sqlite.close().await,
            Driver::Postgres(postgres) => postgres.close().await,
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let driver = match self.driver {
            Driver::Sqlite(_) => "sqlite",
            Driver::Postgres(_) => "postgres",
        };
        f.debug_struct("Store")
            .field("driver", &driver)
            .finish_non_exhaustive()
    }
}

enum Url<'a> {
    Sqlite(&'a std::path::Path),
    Postgres(&'a str),
}

impl<'a> Url<'a> {
    fn parse(url: &'a str) -> Result<Self, StoreError> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path == ":memory:" {
                return Err(StoreError::setup(
                    "`sqlite:` wants the path of a file, such as `sqlite:/var/lib/parallax/parallax.db`",
                ));
            }
            return Ok(Self::Sqlite(path.as_ref()));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(url));
        }
        Err(StoreError::setup(
            "a database URL begins with `sqlite:` or `postgres://`",
        ))
    }
}
