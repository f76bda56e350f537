//! The lock that keeps a second server off a PostgreSQL database.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, Row};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use crate::dialect::{LOCK_CLASS, SERVER_LOCK};
use crate::error::StoreError;

/// How often the connection that holds the lock is tried, and how long it may take to answer.
const BEAT: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(10);

/// PostgreSQL notices within milliseconds that a server which was killed has gone; one that starts
/// in its place waits for that.
const AFTER_CRASH: &str = "SET lock_timeout = '1s'";
/// The code of a lock that was not given in time.
const LOCK_TIMEOUT: &str = "55P03";

/// A session-level advisory lock on a connection of its own. PostgreSQL gives it to someone else
/// as soon as that connection ends, so that a task watches over it.
#[derive(Clone)]
pub(super) struct Guard {
    lost: watch::Receiver<bool>,
}

impl Guard {
    pub(super) async fn take(
        mut connection: PgConnection,
        options: &PgConnectOptions,
        stop: CancellationToken,
        tasks: &TaskTracker,
    ) -> Result<Self, StoreError> {
        sqlx::raw_sql(AFTER_CRASH).execute(&mut connection).await?;
        let taken = sqlx::query("SELECT pg_advisory_lock($1, $2)")
            .bind(LOCK_CLASS)
            .bind(SERVER_LOCK)
            .execute(&mut connection)
            .await;
        if let Err(error) = taken {
            let code = error.as_database_error().and_then(|error| error.code());
            if code.as_deref() != Some(LOCK_TIMEOUT) {
                return Err(error.into());
            }
            let database = format!("database {}", options.get_database().unwrap_or("(default)"));
            let holder = holder(&mut connection).await?;
            return Err(StoreError::AlreadyServed { database, holder });
        }
        let (tell, lost) = watch::channel(false);
        tasks.spawn(keep(connection, stop, tell));
        Ok(Self { lost })
    }

    pub(super) fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    pub(super) async fn lost(&self) {
        let mut lost = self.lost.clone();
        if lost.wait_for(|lost| *lost).await.is_err() {
            // Given back on purpose.
            std::future::pending::<()>().await;
        }
    }
}

/// Who holds the lock, as PostgreSQL knows it.
async fn holder(connection: &mut PgConnection) -> Result<String, StoreError> {
    let row = sqlx::query(
        "SELECT a.application_name AS name, coalesce(host(a.client_addr), 'this machine') AS address
         FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
           AND l.classid = $1::int::oid AND l.objid = $2::int::oid
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .bind(LOCK_CLASS)
    .bind(SERVER_LOCK)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else {
        return Ok("which has just gone; try again".to_owned());
    };
    let name: String = row.try_get("name")?;
    let address: String = row.try_get("address")?;
    Ok(format!("{name}, connected from {address}"))
}

async fn keep(mut connection: PgConnection, stop: CancellationToken, tell: watch::Sender<bool>) {
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(BEAT) => {}
        }
        let answer = tokio::time::timeout(ANSWER, connection.ping()).await;
        if !matches!(answer, Ok(Ok(()))) {
            error!("the connection that holds the lock on the database was lost");
            tell.send_replace(true);
            return;
        }
    }
    // Said aloud, because the end of a connection is noticed only some time after it was closed.
    let unlock = sqlx::query("SELECT pg_advisory_unlock($1, $2)")
        .bind(LOCK_CLASS)
        .bind(SERVER_LOCK);
    let released = async {
        unlock.execute(&mut connection).await?;
        connection.close().await
    };
    if let Err(error) = released.await {
        warn!(%error, "giving the lock on the database back failed");
    }
}
