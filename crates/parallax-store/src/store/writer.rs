//! The one writer of a SQLite database: runs what waits in one transaction, so that many small
//! writes share one flush to the disk.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::ConnectOptions;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::Work;
use super::lock::LockFile;
use crate::error::StoreError;
use crate::tx::{Connection, Scope, Tx};

/// Most closures in one transaction: a few milliseconds of work, beyond which a flush more or
/// less no longer shows.
const BATCH: usize = 200;
/// Most closures that wait; the next one waits for room, up to the busy timeout.
const QUEUE: usize = 1024;

pub(crate) struct Writer {
    jobs: mpsc::Sender<Box<dyn Job>>,
    patience: Duration,
    stop: watch::Sender<bool>,
    task: TaskTracker,
}

impl Writer {
    /// Starts the task that owns `connection`, and `lock` until it ends. `options` are for opening
    /// the connection again after it failed.
    pub(super) fn start(
        connection: SqliteConnection,
        options: SqliteConnectOptions,
        events: watch::Sender<u64>,
        patience: Duration,
        lock: LockFile,
    ) -> Self {
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let (stop, stopped) = watch::channel(false);
        let task = TaskTracker::new();
        task.spawn(async move {
            let mut database = Database {
                options,
                connection: Some(connection),
            };
            serve(&mut database, waiting, stopped, &events).await;
            database.close().await;
            drop(lock);
        });
        Self {
            jobs,
            patience,
            stop,
            task,
        }
    }

    pub(super) async fn run<S, T, E, F>(&self, scope: Scope, given: S, work: F) -> Result<T, E>
    where
        S: Send + Sync + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'t> FnMut(&'t mut Tx, &'t S) -> Work<'t, T, E> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Closure {
            scope,
            given,
            work,
            result: None,
            reply,
        });
        match self.jobs.send_timeout(job, self.patience).await {
            Ok(()) => {}
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                let why = "too many writes are waiting";
                return Err(StoreError::Unavailable { why, source: None }.into());
            }
            Err(mpsc::error::SendTimeoutError::Closed(_)) => return Err(closed().into()),
        }
        answer.await.unwrap_or_else(|_| Err(closed().into()))
    }

    /// Finishes what waits, then closes the database.
    pub(super) async fn close(&self) {
        self.stop.send_replace(true);
        self.task.close();
        self.task.wait().await;
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable {
        why: "it was closed",
        source: None,
    }
}

/// A closure that waits, whatever its types.
trait Job: Send {
    fn scope(&self) -> Scope;

    /// Runs it and keeps its result; whether what it wrote is to stay.
    fn run<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, bool>;

    /// Replaces its result.
    fn fail(&mut self, error: StoreError);

    /// Hands the result to whoever waits.
    fn answer(self: Box<Self>);
}

struct Closure<S, T, E, F> {
    scope: Scope,
    given: S,
    work: F,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<S, T, E, F> Job for Closure<S, T, E, F>
where
    S: Send + Sync,
    T: Send,
    E: From<StoreError> + Send,
    F: for<'t> FnMut(&'t mut Tx, &'t S) -> Work<'t, T, E> + Send,
{
    fn scope(&self) -> Scope {
        self.scope
    }

    fn run<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, bool> {
        Box::pin(async move {
            // The closure itself may panic as well as what it returns.
            let work = AssertUnwindSafe(async { (self.work)(tx, &self.given).await });
            let result = work.catch_unwind().await;
            let result = result.unwrap_or_else(|_| Err(StoreError::Panicked.into()));
            let keep = result.is_ok();
            self.result = Some(result);
            keep
        })
    }

    fn fail(&mut self, error: StoreError) {
        self.result = Some(Err(error.into()));
    }

    fn answer(self: Box<Self>) {
        let result = self.result.unwrap_or_else(|| Err(closed().into()));
        // Fails when the caller has gone away, who then does not want to know.
        let _ = self.reply.send(result);
    }
}

async fn serve(
    database: &mut Database,
    mut waiting: mpsc::Receiver<Box<dyn Job>>,
    mut stopped: watch::Receiver<bool>,
    events: &watch::Sender<u64>,
) {
    loop {
        let first = tokio::select! {
            job = waiting.recv() => job,
            // Also when the store was dropped; what was sent before is still served.
            () = stop(&mut stopped) => {
                waiting.close();
                waiting.recv().await
            }
        };
        let Some(first) = first else { return };
        batch(database, first, &mut waiting, events).await;
    }
}

async fn stop(stopped: &mut watch::Receiver<bool>) {
    // An error means that nobody is left to send.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Runs `first` and what waits behind it in one transaction, and answers all of them.
async fn batch(
    database: &mut Database,
    first: Box<dyn Job>,
    waiting: &mut mpsc::Receiver<Box<dyn Job>>,
    events: &watch::Sender<u64>,
) {
    let mut done = Vec::new();
    let result = transact(database, first, waiting, &mut done).await;
    match result {
        Ok(true) => events.send_modify(|count| *count += 1),
        Ok(false) => {}
        Err(error) => {
            warn!(%error, jobs = done.len(), "a batch of writes failed");
            done.iter_mut().for_each(|job| job.fail(error.clone()));
        }
    }
    done.into_iter().for_each(Job::answer);
}

/// Whether events were appended. On failure nothing of the batch was written; everyone in `done`
/// is to hear of it.
async fn transact(
    database: &mut Database,
    first: Box<dyn Job>,
    waiting: &mut mpsc::Receiver<Box<dyn Job>>,
    done: &mut Vec<Box<dyn Job>>,
) -> Result<bool, StoreError> {
    let mut tx = match database.begin().await {
        Ok(tx) => tx,
        Err(error) => {
            // Whoever waits behind has waited as long: one busy timeout is for all of them.
            done.push(first);
            while let Ok(job) = waiting.try_recv() {
                done.push(job);
            }
            return Err(error);
        }
    };
    let result = run_jobs(&mut tx, first, waiting, done).await;
    database.end(tx, result.is_ok()).await;
    result
}

/// Runs the jobs of a batch: without marks between them for as long as all goes well, which is
/// nearly always. After a job that fails the whole batch is undone and run anew with marks, so that
/// each failure undoes its own writes only.
async fn run_jobs(
    tx: &mut Tx,
    first: Box<dyn Job>,
    waiting: &mut mpsc::Receiver<Box<dyn Job>>,
    done: &mut Vec<Box<dyn Job>>,
) -> Result<bool, StoreError> {
    let mut appended = false;
    let mut marked = false;
    let mut next = Some(first);
    while let Some(mut job) = next {
        if marked {
            let ran = mark_and_run(tx, job.as_mut()).await;
            done.push(job);
            appended |= ran?;
        } else {
            let kept = run(tx, job.as_mut()).await;
            done.push(job);
            match kept {
                Ok(true) => appended |= tx.appended,
                failed => {
                    marked = true;
                    // Where the transaction is gone, why it went says more than that it is.
                    let ran = run_anew(tx, done).await;
                    appended = ran.map_err(|gone| failed.err().unwrap_or(gone))?;
                }
            }
        }
        next = if done.len() < BATCH {
            waiting.try_recv().ok()
        } else {
            None
        };
    }
    tx.execute("COMMIT", &[]).await?;
    Ok(appended)
}

/// Runs the jobs of a batch again, each behind a mark; whether events were appended.
async fn run_anew(tx: &mut Tx, jobs: &mut [Box<dyn Job>]) -> Result<bool, StoreError> {
    tx.execute("ROLLBACK; BEGIN IMMEDIATE", &[]).await?;
    let mut appended = false;
    for job in jobs {
        appended |= mark_and_run(tx, job.as_mut()).await?;
    }
    Ok(appended)
}

/// Runs one job behind a mark, so that its failure undoes its own writes only; whether it appended
/// events that stay. Fails when the transaction itself is gone, as SQLite does to it when the disk
/// is full.
async fn mark_and_run(tx: &mut Tx, job: &mut dyn Job) -> Result<bool, StoreError> {
    tx.execute("SAVEPOINT job", &[]).await?;
    let ran = run(tx, job).await;
    let unmark = match ran {
        Ok(true) => "RELEASE job",
        Ok(false) | Err(_) => "ROLLBACK TO job; RELEASE job",
    };
    if let Err(gone) = tx.execute(unmark, &[]).await {
        return Err(ran.err().unwrap_or(gone));
    }
    Ok(ran.is_ok_and(|kept| kept) && tx.appended)
}

/// Runs one job; whether what it wrote is to stay. Fails with the statement that failed, even where
/// the job went on after it.
async fn run(tx: &mut Tx, job: &mut dyn Job) -> Result<bool, StoreError> {
    tx.scope = job.scope();
    tx.appended = false;
    let keep = job.run(tx).await;
    let settled = tx.settle();
    if let Err(error) = &settled
        && keep
    {
        job.fail(error.clone());
    }
    settled.map(|()| keep)
}

/// The writing connection, between transactions.
struct Database {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
}

impl Database {
    async fn begin(&mut self) -> Result<Tx, StoreError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        let mut tx = Tx::new(Connection::SqliteWriter(connection), Scope::System);
        let begun = tx.execute("BEGIN IMMEDIATE", &[]).await;
        if let Err(error) = begun {
            self.end(tx, false).await;
            return Err(error);
        }
        Ok(tx)
    }

    /// Keeps the connection of a transaction that was committed. That of any other is closed,
    /// which undoes it whatever state it is in.
    async fn end(&mut self, tx: Tx, committed: bool) {
        let Connection::SqliteWriter(connection) = tx.connection else {
            return;
        };
        self.connection = Some(connection);
        if !committed {
            self.close().await;
        }
    }

    async fn close(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            warn!(%error, "closing the database failed");
        }
    }
}
