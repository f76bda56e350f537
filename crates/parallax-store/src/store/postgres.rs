//! PostgreSQL: for several machines, or more data than one disk should hold.

mod guard;
mod roles;

use std::panic::AssertUnwindSafe;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use self::guard::Guard;
use super::{Config, Work};
use crate::dialect::{self, EVENTS_CHANNEL, LOCK_CLASS, MIGRATION_LOCK};
use crate::error::StoreError;
use crate::migrate;
use crate::tx::{Connection, Scope, Tx};

/// How often a transaction is run anew after a deadlock or a serialization failure.
const ATTEMPTS: u32 = 8;
/// A statement of ours takes milliseconds; one that takes this long will not end.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Wakes the readers of events in any case: a notice can be lost with its connection.
const POLL: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(super) struct Postgres {
    app: PgPool,
    system: PgPool,
    guard: Guard,
    events: watch::Sender<u64>,
    tasks: Arc<Tasks>,
}

/// What runs beside the transactions; ends with the last clone of the store.
struct Tasks {
    tracker: TaskTracker,
    listening: CancellationToken,
    guarding: CancellationToken,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.listening.cancel();
        self.guarding.cancel();
    }
}

impl Postgres {
    pub(super) async fn open(
        url: &str,
        config: &Config,
        events: watch::Sender<u64>,
    ) -> Result<Self, StoreError> {
        let options = options(url, config)?;
        let opening = |error: sqlx::Error| unreachable_or(&options, error);
        let connection = PgConnection::connect_with(&options)
            .await
            .map_err(opening)?;
        let tracker = TaskTracker::new();
        let (listening, guarding) = (CancellationToken::new(), CancellationToken::new());
        let guard = Guard::take(connection, &options, guarding.clone(), &tracker).await?;
        let tasks = Arc::new(Tasks {
            tracker,
            listening,
            guarding,
        });
        migrate_as_owner(&options).await?;
        let pool = |role, connections| {
            PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(config.busy_timeout)
                .after_connect(move |connection, _| Box::pin(roles::assume(connection, role)))
                .connect_with(options.clone())
        };
        let app = pool(roles::APP, config.connections.max(2)).await?;
        // One for sign-in, one for jobs, one for the notices, and one to spare.
        let system = pool(roles::SYSTEM, 4).await?;
        tasks.tracker.spawn(listen(
            system.clone(),
            tasks.listening.clone(),
            events.clone(),
        ));
        Ok(Self {
            app,
            system,
            guard,
            events,
            tasks,
        })
    }

    fn pool(&self, scope: Scope) -> Result<&PgPool, StoreError> {
        if self.guard.is_lost() {
            let why = "the lock on it was lost, and another server may have it";
            return Err(StoreError::Unavailable { why, source: None });
        }
        Ok(match scope {
            Scope::Tenant(_) => &self.app,
            Scope::System => &self.system,
        })
    }

    pub(super) async fn run<S, T, E, F>(&self, scope: Scope, given: &S, mut work: F) -> Result<T, E>
    where
        E: From<StoreError>,
        F: for<'t> FnMut(&'t mut Tx, &'t S) -> Work<'t, T, E>,
    {
        let mut attempt = 1;
        loop {
            let mut tx = self.begin_write(scope).await?;
            let result = run_once(&mut work, &mut tx, given).await;
            let settled = tx.settle();
            let conflict = match (&settled, &result) {
                (Err(error), _) if error.is_conflict() => error.clone(),
                (_, Err(_)) => return result,
                (Err(error), Ok(_)) => return Err(error.clone().into()),
                (Ok(()), Ok(_)) => {
                    let appended = tx.appended;
                    match tx.commit().await {
                        Ok(()) => {
                            if appended {
                                self.events.send_modify(|count| *count += 1);
                            }
                            return result;
                        }
                        Err(error) if error.is_conflict() => error,
                        Err(error) => return Err(error.into()),
                    }
                }
            };
            if attempt == ATTEMPTS {
                return Err(conflict.into());
            }
            attempt += 1;
        }
    }

    async fn begin_write(&self, scope: Scope) -> Result<Tx, StoreError> {
        let begin = AssertSqlSafe(dialect::postgres_begin_write(scope));
        let tx = self.pool(scope)?.begin_with(begin).await?;
        Ok(Tx::new(Connection::Postgres(tx), scope))
    }

    pub(super) async fn read(&self, scope: Scope) -> Result<Tx, StoreError> {
        let begin = AssertSqlSafe(dialect::postgres_begin_read(scope));
        let tx = self.pool(scope)?.begin_with(begin).await?;
        Ok(Tx::new(Connection::Postgres(tx), scope))
    }

    pub(super) async fn lost(&self) {
        self.guard.lost().await;
    }

    pub(super) async fn close(&self) {
        // The lock goes last, after the last transaction: the guard's task holds it till the end.
        self.app.close().await;
        self.tasks.listening.cancel();
        self.system.close().await;
        self.tasks.guarding.cancel();
        self.tasks.tracker.close();
        self.tasks.tracker.wait().await;
    }
}

/// A panic is an error of the call, as on SQLite, where it would otherwise end the writer.
async fn run_once<S, T, E, F>(work: &mut F, tx: &mut Tx, given: &S) -> Result<T, E>
where
    E: From<StoreError>,
    F: for<'t> FnMut(&'t mut Tx, &'t S) -> Work<'t, T, E>,
{
    let work = AssertUnwindSafe(async { work(tx, given).await });
    work.catch_unwind()
        .await
        .unwrap_or_else(|_| Err(StoreError::Panicked.into()))
}

fn options(url: &str, config: &Config) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|error| StoreError::setup_from("the PostgreSQL URL is malformed", error))?;
    let name = format!("parallax, process {}", std::process::id());
    let lock_timeout = config.busy_timeout.as_millis().to_string();
    let statement_timeout = (config.busy_timeout + STATEMENT_TIMEOUT)
        .as_millis()
        .to_string();
    Ok(options.application_name(&name).options([
        ("lock_timeout", lock_timeout.as_str()),
        ("statement_timeout", statement_timeout.as_str()),
    ]))
}

fn unreachable_or(options: &PgConnectOptions, error: sqlx::Error) -> StoreError {
    let place = format!(
        "database {} on {}:{} as {}",
        options.get_database().unwrap_or("(default)"),
        options.get_host(),
        options.get_port(),
        options.get_username(),
    );
    match StoreError::from(error) {
        StoreError::Other(source) => StoreError::Setup {
            what: place,
            source: Some(source),
        },
        other => other,
    }
}

async fn migrate_as_owner(options: &PgConnectOptions) -> Result<(), StoreError> {
    let mut connection = PgConnection::connect_with(options).await?;
    roles::ensure(&mut connection).await?;
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_with(options.clone())
        .await?;
    let begin = format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK_CLASS}, {MIGRATION_LOCK})");
    let migrated = migrate::postgres(pool.begin_with(AssertSqlSafe(begin)).await?).await;
    pool.close().await;
    migrated?;
    // A pool would try again for as long as it may, and then say only that it timed out.
    for role in [roles::APP, roles::SYSTEM] {
        roles::assume(&mut connection, role).await?;
    }
    connection.close().await?;
    Ok(())
}

/// Passes notices on until the store is closed.
async fn listen(pool: PgPool, stop: CancellationToken, events: watch::Sender<u64>) {
    let mut listener = None;
    loop {
        if listener.is_none() && !pool.is_closed() {
            listener = connect_listener(&pool).await;
        }
        tokio::select! {
            () = notice(listener.as_mut()) => {}
            () = tokio::time::sleep(POLL) => {}
            () = stop.cancelled() => return,
        }
        events.send_modify(|count| *count += 1);
    }
}

async fn connect_listener(pool: &PgPool) -> Option<PgListener> {
    let connect = async {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(EVENTS_CHANNEL).await?;
        Ok::<_, sqlx::Error>(listener)
    };
    match connect.await {
        Ok(listener) => Some(listener),
        Err(error) => {
            warn!(%error, "cannot listen for events; polling until it works");
            None
        }
    }
}

/// Returns at the next notice; the listener connects anew by itself when it has to.
async fn notice(listener: Option<&mut PgListener>) {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    if let Err(error) = listener.recv().await {
        warn!(%error, "the listener for events failed; polling until it works");
        std::future::pending::<()>().await;
    }
}
