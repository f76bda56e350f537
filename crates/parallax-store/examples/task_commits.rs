//! What durable tasks cost SQLite alone: the rows of a task's two commits (taken on, ended), with
//! their events and cursors, in transactions as large as a batch of the store's.
//!
//! `cargo xtask bench dispatch` uses it as a floor. It reads the path of a new database as a JSON
//! string from its first line of input, answers `ready`, and then answers each number of tasks with
//! the seconds that their commits took.

use std::error::Error;
use std::io::Write;
use std::time::Instant;

use parallax_store::{Config, Store};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Executor};

/// As many writes as one batch of the store's takes.
const BATCH: usize = 200;
/// Room for the statements below.
const STATEMENTS: usize = 16;
/// As long as what the dispatch bench sends.
const INPUT: &str = r#"{"text":"The delivery came two days late and the box was open, but the shop answered within the hour and sent a new one.","language":"en","options":{"explain":false}}"#;
const OUTCOME: &str = r#"{"success":{"value":{"text":"The delivery came two days late and the box was open, but the shop answered within the hour and sent a new one.","language":"en","options":{"explain":false}}}}"#;
const CONTEXT: &str = r#"{"message_id":"tsk_0123456789abcdefghijklmnop","caller":"bench"}"#;
const INSERT: &str = "INSERT INTO tasks (tenant_id, task_id, agent_name, agent_id, capability, \
    input_json, input_blob_json, idempotency_key, request_hash, state, cancel, attempt, \
    instance_uuid, context_json, outcome_json, caller, deadline, not_before, created_at, updated_at) \
    VALUES ($1, $2, 'echo', NULL, 'echo', $3, NULL, NULL, $4, 'dispatched', 'none', 1, $5, $6, NULL, \
    'bench', NULL, NULL, $7, $7)";
const UPDATE: &str = "UPDATE tasks SET state = 'succeeded', cancel = 'none', attempt = 1, \
    instance_uuid = $3, outcome_json = $4, deadline = NULL, not_before = NULL, updated_at = $5 \
    WHERE tenant_id = $1 AND task_id = $2 AND state = 'dispatched' AND attempt = 1";
const EVENT: &str = "UPDATE counters SET value = value + 1 WHERE name = 'event_cursor'; INSERT INTO events (tenant_id, cursor, happened_at, subject, subject_id, kind, \
    message, data_json) SELECT $1, value, $3, 'task', $2, $4, \
    'attempt 1 of `echo` on agent `echo`', '{\"attempt\":1,\"cancel\":\"none\"}' \
    FROM counters WHERE name = 'event_cursor'";
const TENANT: &str = "ten_0123456789abcdefghijklmnop";
const INSTANCE: &str = "00000000-0000-4000-8000-000000000001";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut lines = std::io::stdin().lines();
    let path: String = serde_json::from_str(&lines.next().ok_or("no path was given")??)?;
    // The store makes the schema; from there on SQLite is alone.
    let store = Store::open(&Config::new(format!("sqlite:{path}"))).await?;
    store.close().await;
    let mut database = SqliteConnectOptions::new()
        .filename(&path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .statement_cache_capacity(STATEMENTS)
        .connect()
        .await?;
    writeln!(std::io::stdout(), "ready")?;
    let mut next = 0;
    for line in lines {
        let tasks: usize = line?.trim().parse()?;
        let started = Instant::now();
        commit(&mut database, next..next + tasks).await?;
        next += tasks;
        writeln!(std::io::stdout(), "{}", started.elapsed().as_secs_f64())?;
    }
    Ok(())
}

/// A task ends half a batch after it was taken on, so that each transaction holds both kinds of
/// writes, as it does under load.
async fn commit(
    database: &mut SqliteConnection,
    tasks: std::ops::Range<usize>,
) -> Result<(), sqlx::Error> {
    let lag = BATCH / 2;
    let (first, end) = (tasks.start, tasks.end);
    let mut writes = 0;
    for task in first..end + lag {
        if task < end {
            turn_batch(database, &mut writes).await?;
            take_on(database, &id(task)).await?;
        }
        if let Some(task) = task.checked_sub(lag).filter(|task| *task >= first) {
            turn_batch(database, &mut writes).await?;
            end_task(database, &id(task)).await?;
        }
    }
    database.execute(sqlx::query("COMMIT")).await?;
    Ok(())
}

/// Begins a transaction where the last one is full.
async fn turn_batch(
    database: &mut SqliteConnection,
    writes: &mut usize,
) -> Result<(), sqlx::Error> {
    if writes.is_multiple_of(BATCH) {
        if *writes > 0 {
            database.execute(sqlx::query("COMMIT")).await?;
        }
        database.execute(sqlx::query("BEGIN IMMEDIATE")).await?;
    }
    *writes += 1;
    Ok(())
}

async fn take_on(database: &mut SqliteConnection, id: &str) -> Result<(), sqlx::Error> {
    let row = sqlx::query(INSERT).bind(TENANT).bind(id);
    let row = row.bind(INPUT.as_bytes()).bind([7_u8; 32].as_slice());
    let row = row.bind(INSTANCE).bind(CONTEXT).bind(now());
    database.execute(row).await?;
    event(database, id, "dispatched").await
}

async fn end_task(database: &mut SqliteConnection, id: &str) -> Result<(), sqlx::Error> {
    let row = sqlx::query(UPDATE).bind(TENANT).bind(id);
    let row = row.bind(INSTANCE).bind(OUTCOME).bind(now());
    let changed = database.execute(row).await?;
    assert_eq!(changed.rows_affected(), 1, "the task was taken on before");
    event(database, id, "succeeded").await
}

async fn event(database: &mut SqliteConnection, id: &str, kind: &str) -> Result<(), sqlx::Error> {
    let event = sqlx::query(EVENT).bind(TENANT).bind(id);
    database.execute(event.bind(now()).bind(kind)).await?;
    Ok(())
}

/// In the order of their making, and as long as real ids.
fn id(task: usize) -> String {
    format!("tsk_{task:026}")
}

fn now() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
