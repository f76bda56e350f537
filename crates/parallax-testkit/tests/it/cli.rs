//! The command line on agents that run: what it shows, and what outlives a restart.

mod verbs;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use parallax_testkit::world::{Fixture, PATIENCE, World, parallax, processes_of};
use rustix::process::Signal;

/// The width that the guides and many terminals have.
const COLUMNS: usize = 100;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A command that goes on, killed at the end of its test.
struct Following(Child);

impl Following {
    fn start(world: &World, args: &[&str], out: &Path) -> Result<Self> {
        let child = Command::new(parallax())
            .args(args)
            .arg("--data-dir")
            .arg(world.data_dir())
            .stdin(Stdio::null())
            .stdout(File::create(out)?)
            .stderr(File::create(out.with_extension("err"))?)
            .spawn();
        child.map(Self).context("starting a command that goes on")
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn followed_logs_go_on_after_a_restart_of_the_server() -> Result<()> {
    let world = World::start().await?;
    world.deploy_ready(&Fixture::named("parrot")).await?;
    let out = world.dir().join("followed");
    let following = Following::start(&world, &["logs", "parrot", "--follow"], &out)?;
    let registered = async |times: usize| {
        let what = format!("`registered` is followed {times} times");
        let seen = world.until(&what, async || {
            let lines = fs::read_to_string(&out)?;
            let count = lines
                .lines()
                .filter(|line| line.ends_with("| registered"))
                .count();
            Ok((count == times).then_some(()))
        });
        let said = || fs::read_to_string(out.with_extension("err"));
        seen.await.with_context(|| format!("{:?}", said()))
    };
    registered(1).await?;
    world.signal_server(Signal::INT).await?;
    world.start_server().await?;
    world.until_ready("parrot").await?;
    registered(2).await?;
    let said = fs::read_to_string(out.with_extension("err"))?;
    ensure!(said.contains("the server is back"), "{said}");
    drop(following);
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn down_says_what_it_stopped_and_leaves_nothing() -> Result<()> {
    let world = World::start().await?;
    world
        .deploy_ready(&Fixture::named("parrot").replicas(2))
        .await?;
    let down = world.cli(["down"], PATIENCE).await?;
    let said = text(&down.stderr);
    ensure!(down.status.success(), "{said}");
    ensure!(said.contains(", with 2 replicas"), "{said}");
    ensure!(!world.data_dir().join("server.json").exists());
    let left = sockets(&world.data_dir())?;
    ensure!(left == 0, "{left} sockets are left");
    world.nothing_runs().await?;
    let again = world.cli(["down"], PATIENCE).await?;
    ensure!(
        text(&again.stdout).starts_with("Nothing ran in "),
        "{again:?}"
    );
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn down_counts_what_a_killed_server_has_left() -> Result<()> {
    let world = World::start().await?;
    world.deploy_ready(&Fixture::named("parrot")).await?;
    world.kill9_server().await?;
    let down = world.cli(["down"], PATIENCE).await?;
    let said = text(&down.stdout);
    ensure!(said.contains("had left: 1 replica."), "{said}");
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_fits_a_terminal_and_names_what_is_in_force() -> Result<()> {
    let world = World::start().await?;
    let status = world
        .deploy_ready(&Fixture::named("parrot").replicas(2))
        .await?;
    for command in [
        &["status", "parrot"][..],
        &["agents"],
        &["hosts"],
        &["registry"],
    ] {
        let shown = world.cli(command.iter().copied(), PATIENCE).await?;
        let shown = text(&shown.stdout);
        let longest = shown.lines().map(|line| line.chars().count()).max();
        ensure!(longest.is_some_and(|it| it <= COLUMNS), "{shown}");
        if command[0] == "status" {
            for word in [
                "phase ",
                "replicas ",
                "revision ",
                "build ",
                "isolation ",
                "limits ",
            ] {
                ensure!(shown.contains(&format!("\n  {word}")), "{word}: {shown}");
            }
        }
    }
    // People read this in lists of processes.
    let replicas = status.replica_details.iter();
    for pid in replicas.filter_map(|replica| replica.pid) {
        let command = text(&fs::read(format!("/proc/{pid}/cmdline"))?);
        ensure!(!command.contains("/./"), "{command}");
    }
    ensure!(!processes_of(world.dir()).is_empty());
    world.end().await
}

fn sockets(dir: &Path) -> Result<usize> {
    use std::os::unix::fs::FileTypeExt;
    let mut count = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        count += match (kind.is_dir(), kind.is_socket()) {
            (true, _) => sockets(&entry.path())?,
            (_, true) => 1,
            _ => 0,
        };
    }
    Ok(count)
}
