//! How many small writes a second the store makes durable on this disk, and the same commits made
//! by SQLite alone: `cargo run --release -p parallax-store --example throughput [URL] [WRITERS]`.
//! Without a URL it uses a new SQLite file in the current folder, and removes it.

use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};

use parallax_core::event::Subject;
use parallax_core::id::TenantId;
use parallax_core::time::Timestamp;
use parallax_store::events::NewEvent;
use parallax_store::{Config, Store, events, tenants};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Executor};

const SPAN: Duration = Duration::from_secs(5);
/// As many as one batch of the store's takes.
const BATCH: u32 = 200;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = tempfile::tempdir_in(".")?;
    let file = folder.path().join("throughput.db");
    let url = args
        .next()
        .unwrap_or_else(|| format!("sqlite:{}", file.display()));
    let writers = args.next().map_or(Ok(BATCH), |n| n.parse())?;
    let stored = store_writes(&url, writers).await?;
    let floor = raw_commits(&folder.path().join("raw.db")).await?;
    writeln!(
        std::io::stdout(),
        "store: {stored:.0} writes/s from {writers} writers; SQLite alone: {floor:.0}/s in \
         transactions of {BATCH}; ratio {:.2}",
        stored / floor
    )?;
    Ok(())
}

/// Appends events from `writers` tasks, each of which waits for its own commit.
async fn store_writes(url: &str, writers: u32) -> Result<f64, Box<dyn Error>> {
    let store = Store::open(&Config::new(url)).await?;
    let id = TenantId::new(Timestamp::from_unix_millis(1), [1; 10]);
    let tenant = tenants::Tenant {
        id,
        name: "bench".parse()?,
        created_at: Timestamp::default(),
    };
    store
        .system_write(tenant, |tx, tenant| Box::pin(tenants::insert(tx, tenant)))
        .await?;
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..writers {
        let store = store.clone();
        tasks.spawn(async move {
            let mut done = 0_u32;
            while start.elapsed() < SPAN {
                let event = event();
                store
                    .write(id, event, |tx, event| Box::pin(events::append(tx, event)))
                    .await?;
                done += 1;
            }
            Ok::<_, parallax_store::StoreError>(done)
        });
    }
    let mut total = 0.0;
    for done in tasks.join_all().await {
        total += f64::from(done?);
    }
    store.close().await;
    Ok(total / start.elapsed().as_secs_f64())
}

fn event() -> NewEvent {
    NewEvent {
        at: Timestamp::default(),
        subject: Subject::Task,
        subject_id: "tsk_bench".to_owned(),
        kind: "bench".to_owned(),
        message: String::new(),
        data_json: "{}".to_owned(),
    }
}

/// The same statements without the store's queue, savepoints and answers.
async fn raw_commits(path: &std::path::Path) -> Result<f64, Box<dyn Error>> {
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await?;
    connection
        .execute("CREATE TABLE counter (value INTEGER)")
        .await?;
    connection.execute("INSERT INTO counter VALUES (0)").await?;
    connection
        .execute("CREATE TABLE e (t TEXT, c INTEGER, d TEXT, PRIMARY KEY (t, c))")
        .await?;
    let start = Instant::now();
    let mut done = 0.0;
    while start.elapsed() < SPAN {
        connection.execute(sqlx::query("BEGIN IMMEDIATE")).await?;
        for _ in 0..BATCH {
            connection
                .fetch_one(sqlx::query(
                    "UPDATE counter SET value = value + 1 RETURNING value",
                ))
                .await?;
            let insert = "INSERT INTO e SELECT 'ten_bench', value, '{}' FROM counter";
            connection.execute(sqlx::query(insert)).await?;
            done += 1.0;
        }
        connection.execute(sqlx::query("COMMIT")).await?;
    }
    Ok(done / start.elapsed().as_secs_f64())
}
