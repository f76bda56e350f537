//! Processes that end badly, and disks that are full: tests that run this very program again as a
//! child of theirs.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use parallax_core::id::TenantId;
use parallax_store::{Config, Page, Store, StoreError, agents, tenants};

use crate::database::on_both;
use crate::samples;

/// What tells a child what to do, among the arguments that libtest takes for names of tests.
const ORDER: &str = "child-order=";
/// Enough for several batches.
const ACKNOWLEDGED: usize = 300;

fn child(order: &str, url: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command
        .args(["--exact", "--nocapture", "crash::the_child_process"])
        .arg(format!("{ORDER}{order}:{url}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// Nothing by itself: the tests below run it as a process of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_child_process() {
    let order = std::env::args().find_map(|a| a.strip_prefix(ORDER).map(str::to_owned));
    let Some(order) = order else { return };
    match order.split_once(':').expect("an order and a URL") {
        ("write", url) => write_for_ever(url).await,
        ("fill", url) => fill(url).await,
        (other, _) => panic!("no order {other}"),
    }
}

async fn open(url: &str) -> (Store, TenantId) {
    let store = Store::open(&Config::new(url)).await.expect("opens");
    let tenant = samples::tenant(1);
    crate::database::add_tenant(&store, tenant.clone()).await;
    (store, tenant.id)
}

/// Writes from sixteen tasks; says `did NAME` after each acknowledgement.
async fn write_for_ever(url: &str) {
    let (store, tenant) = open(url).await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..16_u8 {
        let store = store.clone();
        tasks.spawn(async move {
            for n in 0..u32::MAX {
                let agent = numbered(tenant, writer, n);
                let said = format!("did {}", agent.name);
                store
                    .write(tenant, agent, |tx, agent| {
                        Box::pin(agents::insert(tx, agent))
                    })
                    .await
                    .expect("writes");
                say(&said);
            }
        });
    }
    tasks.join_all().await;
}

/// Tells the parent; past the test harness, which keeps what `println!` says.
fn say(text: &str) {
    writeln!(std::io::stdout(), "{text}").expect("the parent listens");
}

fn numbered(tenant: TenantId, writer: u8, n: u32) -> parallax_core::agent::Agent {
    let mut entropy = [writer; 10];
    entropy[..4].copy_from_slice(&n.to_be_bytes());
    let mut agent = samples::agent(tenant, 1);
    agent.id = parallax_core::id::AgentId::new(samples::at(1), entropy);
    agent.name = samples::name(&format!("a-{writer}-{n}"));
    agent
}

/// Fills a small disk, then makes room on it.
async fn fill(url: &str) {
    let (store, tenant) = open(url).await;
    let path = Path::new(url.strip_prefix("sqlite:").expect("a file"));
    let ballast = path.with_file_name("ballast");
    std::fs::write(&ballast, vec![1; 400_000]).expect("there is room for it");
    let mut written = 0;
    let insert = |n| {
        let mut agent = numbered(tenant, 0, n);
        agent.status.message = "x".repeat(20_000);
        store.write(tenant, agent, |tx, agent| {
            Box::pin(agents::insert(tx, agent))
        })
    };
    let error = loop {
        match insert(written).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::StorageFull { .. }), "{error:?}");
    std::fs::remove_file(ballast).expect("it exists");
    store.check_writable().await.expect("there is room again");
    insert(written).await.expect("there is room again");
    let mut tx = store.read(tenant).await.expect("a reader");
    let listed = agents::list(&mut tx, None, &Page::first(10_000))
        .await
        .expect("reads");
    assert_eq!(listed.items.len(), written as usize + 1);
    say("filled");
}

/// A child that is killed with the test, also when the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0
            .kill()
            .expect("it is a child of ours that was not waited for");
        self.0.wait().expect("it ends");
    }
}

on_both! {
async fn what_was_acknowledged_survives_a_kill_of_the_process(database: Database) {
    let child = child("write", &database.config.url)
        .spawn()
        .expect("this program runs");
    let mut child = Killed(child);
    let output = BufReader::new(child.0.stdout.take().expect("it is piped"));
    let mut done = output
        .lines()
        .map(|line| line.expect("UTF-8"))
        .filter_map(|line| line.strip_prefix("did ").map(str::to_owned));
    let acknowledged: Vec<_> = done.by_ref().take(ACKNOWLEDGED).collect();
    drop(child);
    let acknowledged: Vec<_> = acknowledged.into_iter().chain(done).collect();
    assert!(acknowledged.len() >= ACKNOWLEDGED, "{}", acknowledged.len());

    let store = database.open().await;
    if database.postgres.is_none() {
        assert_eq!(database.sql("PRAGMA integrity_check").await, "ok\n");
    }
    let mut tx = store.system_read().await.expect("a reader");
    let tenant = tenants::first(&mut tx)
        .await
        .expect("reads")
        .expect("it was added");
    drop(tx);
    let mut tx = store.read(tenant.id).await.expect("a reader");
    for name in acknowledged {
        let found = agents::by_name(&mut tx, &samples::name(&name))
            .await
            .expect("reads");
        assert!(found.is_some(), "{name} was acknowledged");
    }
}
}

#[tokio::test]
async fn a_full_disk_is_reported_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // A disk of two megabytes that only the child sees.
    let script = "mount -t tmpfs -o size=2m plx-test \"$0\" && exec \"$@\"";
    let inner = child(
        "fill",
        &format!("sqlite:{}/test.db", folder.path().display()),
    );
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", script])
            .arg(folder.path())
            .stdin(Stdio::null());
        command
    };
    let possible = unshare("mount -t tmpfs -o size=2m plx-test \"$0\"").output();
    if !possible.is_ok_and(|output| output.status.success()) {
        parallax_testkit::skip!("no small disk: mounting a tmpfs needs root and CAP_SYS_ADMIN");
    }
    let mut command = unshare(script);
    command.arg(inner.get_program()).args(inner.get_args());
    let output = command.output().expect("unshare runs");
    let (out, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success() && out.contains("filled"),
        "{out}\n{error}"
    );
}
