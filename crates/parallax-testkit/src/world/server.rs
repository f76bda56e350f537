//! The server process of a world.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde::Deserialize;
use tokio::process::Child;

use super::processes::signal;
use super::{PATIENCE, World, held};

/// How a world's server is started.
#[derive(Clone, Debug)]
pub struct Serve {
    /// `--listen`; port 0 takes a free one.
    pub listen: String,
    /// Further options.
    pub args: Vec<String>,
    /// Whether it serves TLS, with a certificate of an authority of the world's own.
    pub tls: bool,
    /// Another build of the program than [`super::parallax`].
    pub program: Option<PathBuf>,
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:0".to_owned(),
            args: Vec::new(),
            tls: false,
            program: None,
        }
    }
}

impl Serve {
    /// A server that speaks TLS only.
    #[must_use]
    pub fn with_tls() -> Self {
        Self {
            tls: true,
            ..Self::default()
        }
    }

    /// The same by another build of the program, with options that it has.
    #[must_use]
    pub fn by(mut self, program: &str, args: &[&str]) -> Self {
        self.program = Some(program.into());
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// The same without a host of its own.
    #[must_use]
    pub fn only(mut self) -> Self {
        self.args.push("--no-local-host".to_owned());
        self
    }

    /// A server on a PostgreSQL database.
    #[must_use]
    pub fn with_database(url: &str) -> Self {
        Self {
            args: vec!["--database".to_owned(), url.to_owned()],
            ..Self::default()
        }
    }

    /// A server without a host of its own.
    #[must_use]
    pub fn without_host() -> Self {
        Self::default().only()
    }
}

/// What `server.json` says.
#[derive(Debug, Deserialize)]
struct Ready {
    url: String,
    pid: u32,
}

/// A started `parallax serve`.
#[derive(Debug)]
pub(super) struct ServerProcess {
    child: Child,
    pub(super) pid: u32,
    pub(super) url: String,
}

impl ServerProcess {
    /// Waits for the process's end.
    pub(super) async fn ended(mut self, patience: Duration) -> Result<ExitStatus> {
        tokio::time::timeout(patience, self.child.wait())
            .await
            .context("the server lives on")?
            .context("waiting for the server")
    }
}

impl World {
    /// Starts the server and waits until it says that it is ready.
    ///
    /// # Errors
    /// When it ends instead, or says nothing in time.
    pub async fn start_server(&self) -> Result<()> {
        ensure!(held(&self.server).is_none(), "the server runs already");
        let mut server = ServerProcess {
            child: self.spawn_server()?,
            pid: 0,
            url: String::new(),
        };
        server.pid = server
            .child
            .id()
            .context("a process that runs has a number")?;
        let file = self.data_dir().join("server.json");
        let ready = self
            .until("the server is ready", async || {
                if let Some(status) = server.child.try_wait()? {
                    bail!("the server ended at its start: {status}");
                }
                Ok(read(&file)?.filter(|ready| ready.pid == server.pid))
            })
            .await?;
        server.url = ready.url;
        held(&self.api).point_at(&server.url, &self.data_dir(), self.ca_file().as_deref())?;
        *held(&self.server) = Some(server);
        Ok(())
    }

    /// Starts a server that is expected to end by itself, and returns how and with which words.
    ///
    /// # Errors
    /// When it goes on running.
    pub async fn refused_server(&self, args: &[&str]) -> Result<(ExitStatus, String)> {
        let mut command = self.command();
        command
            .arg("serve")
            .args(args)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output())
            .await
            .with_context(|| format!("{command:?} goes on although it should be refused"))??;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((output.status, words))
    }

    /// Kills the server without a warning; everything else goes on.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill9_server(&self) -> Result<()> {
        self.signal_server(Signal::KILL).await.map(drop)
    }

    /// Kills the server and starts it again on the same data and port.
    ///
    /// # Errors
    /// As [`World::kill9_server`] and [`World::start_server`].
    pub async fn kill9_and_restart_server(&self) -> Result<()> {
        self.kill9_server().await?;
        self.start_server().await
    }

    /// Sends the server a signal and waits for its end.
    ///
    /// # Errors
    /// When it does not run, or does not end in time.
    pub async fn signal_server(&self, kind: Signal) -> Result<ExitStatus> {
        let server = held(&self.server).take();
        let server = server.context("the server does not run")?;
        signal(server.pid, kind).context("signalling the server")?;
        let ended = server.ended(PATIENCE).await;
        ended.with_context(|| self.log_tail())
    }

    /// The server's process.
    ///
    /// # Errors
    /// While it does not run.
    pub fn server_pid(&self) -> Result<u32> {
        let server = held(&self.server);
        let server = server.as_ref().context("the server does not run")?;
        Ok(server.pid)
    }

    fn spawn_server(&self) -> Result<Child> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .context("opening the server's log")?;
        let serve = held(&self.serve).clone();
        let mut command = self.command();
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--listen", &serve.listen])
            .args(&serve.args)
            .args(self.tls_args())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        command.spawn().context("starting the server")
    }
}

/// The file appears at once or not at all; the one of a killed server may still be there.
fn read(file: &Path) -> Result<Option<Ready>> {
    match std::fs::read(file) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("reading server.json"),
    }
}
