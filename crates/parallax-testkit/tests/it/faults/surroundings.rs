//! What a machine does to a server: taken ports, locked databases, full disks.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use parallax_testkit::skip;
use parallax_testkit::world::{Call, Fixture, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_is_refused_and_the_first_goes_on() -> Result<()> {
    let world = World::start().await?;
    let data = world.data_dir().display().to_string();
    let (status, words) = world
        .refused_server(&["--data-dir", &data, "--listen", "127.0.0.1:0"])
        .await?;
    ensure!(status.code() == Some(1), "{status}: {words}");
    ensure!(
        words.contains(&world.url()?) && words.contains("parallax down"),
        "{words}"
    );
    ensure!(world.hosts().await?.len() == 1);
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_database_is_refused() -> Result<()> {
    let world = World::start().await?;
    let database = format!("sqlite:{}", world.data_dir().join("parallax.db").display());
    let other = world.dir().join("other").display().to_string();
    let args = [
        "--data-dir",
        &other,
        "--listen",
        "127.0.0.1:0",
        "--database",
        &database,
    ];
    let (status, words) = world.refused_server(&args).await?;
    ensure!(status.code() == Some(1), "{status}: {words}");
    ensure!(words.contains("database"), "{words}");
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_with_a_way_out() -> Result<()> {
    let world = World::start().await?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let other = world.dir().join("other").display().to_string();
    let (status, words) = world
        .refused_server(&["--data-dir", &other, "--listen", &address])
        .await?;
    ensure!(status.code() == Some(1), "{status}: {words}");
    ensure!(
        words.contains(&address) && words.contains("in use"),
        "{words}"
    );
    world.end().await
}

/// Another program that holds a write lock on a SQLite file until its input ends.
struct Locker(Child);

impl Locker {
    fn on(database: &Path) -> Result<Self> {
        let script = "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1],timeout=30,isolation_level=None)\nc.execute('BEGIN IMMEDIATE')\nprint('locked',flush=True)\nsys.stdin.read()\nc.execute('ROLLBACK')";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting python3")?;
        let stdout = child.stdout.take().context("it is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line == "locked\n", "the database could not be locked");
        Ok(Self(child))
    }

    fn release(mut self) -> Result<()> {
        drop(self.0.stdin.take());
        ensure!(self.0.wait()?.success());
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_another_program_locks_costs_nothing_but_time() -> Result<()> {
    let world = World::start().await?;
    world.deploy_ready(&Fixture::named("parrot")).await?;
    let locker = Locker::on(&world.data_dir().join("parallax.db"))?;
    // Attached calls need no database. What does is refused in clear words, or waits.
    world.invoke(&Call::echo("parrot")).await?.value()?;
    let refused = world.submit(&Call::echo("parrot")).await;
    if let Err(error) = &refused {
        ensure!(
            format!("{error:#}").contains("store_unavailable"),
            "{error:#}"
        );
    }
    locker.release()?;
    let task = world
        .until("tasks are accepted again", async || {
            Ok(Some(world.submit(&Call::echo("parrot")).await?))
        })
        .await?;
    world.task_ended(&task.id.to_string()).await?;
    world.scale("parrot", 2).await?;
    world.until_ready("parrot").await?;
    world.end().await
}

/// A small file system, as root can make one.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(dir: &'a Path) -> Option<Self> {
        std::fs::create_dir_all(dir).ok()?; // Without the folder there is no mount either.
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs"])
            .arg(dir)
            .stderr(Stdio::null())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(Self(dir))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Lazily: a process that is being waited for may still have a file open.
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_refuses_an_upload_and_loses_nothing() -> Result<()> {
    let world = World::start().await?;
    world.deploy_ready(&Fixture::named("parrot")).await?;
    let blobs = world.data_dir().join("blobs");
    world.signal_server(rustix::process::Signal::TERM).await?;
    // What is there must be on the small disk, too.
    let aside = world.dir().join("aside");
    std::fs::rename(&blobs, &aside)?;
    let Some(_disk) = SmallDisk::mount(&blobs) else {
        std::fs::remove_dir(&blobs)?;
        std::fs::rename(&aside, &blobs)?;
        skip!("cannot mount a small file system here: that needs root");
    };
    let copied = Command::new("cp")
        .arg("-a")
        .arg(aside.join("."))
        .arg(&blobs)
        .status()?;
    ensure!(copied.success());
    let ballast = blobs.join("ballast");
    std::fs::create_dir(&ballast)?;
    let mut file = std::fs::File::create(ballast.join("file"))?;
    let full = std::iter::repeat_with(|| file.write_all(&[7; 1 << 16])).find(Result::is_err);
    ensure!(full.is_some());
    world.start_server().await?;

    let refused = world
        .deploy(&Fixture::named("large").file("data", &noise(1 << 20)))
        .await;
    let error = format!(
        "{:#}",
        refused
            .err()
            .context("an upload on a full disk was accepted")?
    );
    ensure!(error.contains("storage_full"), "{error}");
    let unready = reqwest::get(format!("{}/readyz", world.url()?)).await?;
    ensure!(
        unready.status() == reqwest::StatusCode::INSUFFICIENT_STORAGE,
        "{unready:?}"
    );
    ensure!(
        world.status("large").await.is_err(),
        "an agent without source was made"
    );
    world.until_ready("parrot").await?;
    world.invoke(&Call::echo("parrot")).await?.value()?;
    drop(file);
    std::fs::remove_dir_all(&ballast)?;
    world.deploy_ready(&Fixture::named("large")).await?;
    world.end().await
}

/// Text that does not compress.
fn noise(bytes: usize) -> String {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'0' + u8::try_from((state >> 33) % 75).expect("below 75"))
    };
    std::iter::repeat_with(&mut next).take(bytes).collect()
}
