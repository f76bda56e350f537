//! The product as a person runs it: real `parallax` processes on a folder of their own.
//!
//! ```text
//!   test ──HTTP──▶ `parallax serve` ──▶ local host ──▶ shims ──▶ fixture agents
//!    │                   ▲
//!    ├── kill -9, SIGTERM, restart ── World (owns the folder, knows every process in it)
//!    └── separate hosts: `parallax host`
//! ```
//!
//! Every wait has a deadline and ends, when it was in vain, with what the server says of its
//! agents, their events, and the end of its log. Whatever a test does, also when it panics, all
//! that runs in the world's folder is gone when the world is dropped.

mod api;
mod calls;
mod environment;
mod fixture;
mod host;
mod logs;
mod processes;
mod sdk;
mod server;
mod story;
mod tls;
mod wait;

pub use api::Refusal;
pub use calls::{Call, CallEnd};
pub use environment::{is_full, parallax, seeds};
pub use fixture::Fixture;
pub use host::SeparateHost;
pub use logs::Ticks;
pub use processes::{Found, processes_of};
pub use sdk::SdkProgram;
pub use server::Serve;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use api::Api;
use server::ServerProcess;

/// How long a world waits for anything that a healthy product does in a second or two.
///
/// Far above that, so that a busy machine does not fail a test; a defect costs this long once.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long `parallax down` may take when nothing ignores it.
const DOWN_PATIENCE: Duration = Duration::from_secs(60);

/// A server in a temporary folder, and all that runs under it.
#[derive(Debug)]
pub struct World {
    dir: TempDir,
    serve: Mutex<Serve>,
    server: Mutex<Option<ServerProcess>>,
    api: Mutex<Api>,
    /// Set by [`World::end`]: nothing is left to be cleared away.
    ended: AtomicBool,
}

impl World {
    /// Starts a server with its local host.
    ///
    /// # Errors
    /// When it does not become ready in time, with the end of its log.
    pub async fn start() -> Result<Self> {
        Self::start_with(Serve::default()).await
    }

    /// Starts a server with other options.
    ///
    /// # Errors
    /// As [`World::start`].
    pub async fn start_with(serve: Serve) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("plx-world-")
            .tempdir()
            .context("making the world's folder")?;
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700))?;
        let world = Self {
            dir,
            serve: Mutex::new(serve),
            server: Mutex::default(),
            api: Mutex::default(),
            ended: AtomicBool::new(false),
        };
        if held(&world.serve).tls {
            world.make_authority()?;
        }
        world.start_server().await?;
        Ok(world)
    }

    /// The folder of everything.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The server's data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where the server is, as it says itself.
    ///
    /// # Errors
    /// While it does not run.
    pub fn url(&self) -> Result<String> {
        let server = held(&self.server);
        let server = server.as_ref().context("the server does not run")?;
        Ok(server.url.clone())
    }

    /// Stops everything as a person does, and shows that nothing is left.
    ///
    /// # Errors
    /// When `parallax down` fails or a process of the world survives it.
    pub async fn end(&self) -> Result<()> {
        self.down().await?;
        self.ended.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Runs `parallax down` and shows that nothing is left.
    ///
    /// # Errors
    /// As [`World::end`].
    pub async fn down(&self) -> Result<()> {
        let output = self.cli(["down"], DOWN_PATIENCE).await?;
        ensure!(
            output.status.success(),
            "`parallax down` failed: {}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.log_tail(),
        );
        let server = held(&self.server).take();
        if let Some(server) = server {
            server.ended(PATIENCE).await?;
        }
        self.nothing_runs().await
    }

    /// Waits until no process of this world is left.
    ///
    /// # Errors
    /// When one survives.
    pub async fn nothing_runs(&self) -> Result<()> {
        self.until("no process is left", async || {
            Ok(processes_of(self.dir()).is_empty().then_some(()))
        })
        .await
        .with_context(|| format!("{:#?}", processes_of(self.dir())))
    }

    /// Runs a client command of the `parallax` program against this world.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn cli<'a>(
        &self,
        args: impl IntoIterator<Item = &'a str>,
        patience: Duration,
    ) -> Result<std::process::Output> {
        let command = self.client_command();
        self.run_cli(command, args, patience).await
    }

    /// As [`World::cli`], on a machine that trusts nobody but whom `args` name.
    ///
    /// # Errors
    /// As [`World::cli`].
    pub async fn cli_as_stranger<'a>(
        &self,
        args: impl IntoIterator<Item = &'a str>,
    ) -> Result<std::process::Output> {
        self.run_cli(self.command(), args, PATIENCE).await
    }

    async fn run_cli<'a>(
        &self,
        mut command: tokio::process::Command,
        args: impl IntoIterator<Item = &'a str>,
        patience: Duration,
    ) -> Result<std::process::Output> {
        command
            .args(args)
            .arg("--data-dir")
            .arg(self.data_dir())
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true);
        tokio::time::timeout(patience, command.output())
            .await
            .with_context(|| format!("{command:?} did not end\n{}", self.log_tail()))?
            .with_context(|| format!("starting {command:?}"))
    }

    /// The program, in the environment that all of its processes get.
    fn command(&self) -> tokio::process::Command {
        let program = held(&self.serve).program.clone();
        let program = program.unwrap_or_else(|| parallax().to_owned());
        let mut command = tokio::process::Command::new(program);
        command
            .env_clear()
            .env("PATH", environment::path())
            .env("HOME", self.dir())
            .current_dir(self.dir());
        command
    }
}

impl Drop for World {
    /// After a failure: first as a person would, then without asking. Only what names the world's
    /// own folder is touched.
    fn drop(&mut self) {
        if !self.ended.load(Ordering::Relaxed) {
            processes::clear(self.dir(), &self.data_dir());
        }
    }
}

/// What a test that panicked has left is still true.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
