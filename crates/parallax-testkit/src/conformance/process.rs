//! The fixture agent as a child process.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::CONNECT_PATIENCE;
use super::breach::Breach;
use super::environment::variable;
use super::fixtures::FixtureCommand;
use super::journal::Journal;

/// What a child inherits; all else is set by the case, so that a proxy or a trust store of the
/// machine cannot decide a case.
const INHERITED: [&str; 4] = ["PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH"];

/// A running fixture. Killed when dropped.
pub struct FixtureProcess {
    child: Child,
    ready: watch::Receiver<bool>,
    output: Arc<Mutex<String>>,
    readers: JoinSet<()>,
    journal: Journal,
}

impl FixtureProcess {
    /// Starts `command` with `env` on top of its own.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(
        command: &FixtureCommand,
        env: &[(String, String)],
        journal: Journal,
    ) -> anyhow::Result<Self> {
        let (program, arguments) = command.argv.split_first().context("an empty command")?;
        let mut child = Command::new(program);
        child
            .args(arguments)
            .current_dir(&command.cwd)
            .env_clear()
            .envs(
                INHERITED
                    .iter()
                    .filter_map(|name| Some((name, variable(name)?))),
            )
            .envs(command.env.iter().map(|(name, value)| (name, value)))
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = child
            .spawn()
            .with_context(|| format!("starting the fixture {}", command.argv.join(" ")))?;
        let (ready_in, ready) = watch::channel(false);
        let output = Arc::new(Mutex::new(String::new()));
        let stdout = child.stdout.take().context("stdout is piped")?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let copy = Reader {
            output: Arc::clone(&output),
            journal: journal.clone(),
        };
        let mut readers = JoinSet::new();
        readers.spawn(copy.clone().lines_of("stdout", stdout, Some(ready_in)));
        readers.spawn(copy.lines_of("stderr", stderr, None));
        Ok(Self {
            child,
            ready,
            output,
            readers,
            journal,
        })
    }

    /// Whether the fixture has said that it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Waits for the line `ready`, which follows the first Welcome.
    ///
    /// # Errors
    /// A [`Breach`] when it does not come.
    pub async fn ready(&mut self) -> Result<(), Breach> {
        let said = self.ready.wait_for(|ready| *ready);
        match tokio::time::timeout(CONNECT_PATIENCE, said).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Breach::new(
                "the fixture prints `ready` to stdout after the first Welcome",
                "did not",
            )),
        }
    }

    /// Asks the process to stop, as a service manager does.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Interrupts the process, as Ctrl-C at a terminal does.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn interrupt(&self) -> anyhow::Result<()> {
        self.signal(Signal::INT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.journal
            .note("case", &format!("{signal:?} to the fixture"));
        let id = self.child.id().ok_or_else(|| {
            Breach::new(
                "the agent lives until it is told to stop",
                "had exited already",
            )
        })?;
        let id = i32::try_from(id).context("a process id")?;
        let pid = Pid::from_raw(id).context("a process id is not 0")?;
        kill_process(pid, signal).context("signalling the fixture")?;
        Ok(())
    }

    /// Waits for the process's end, and for the last of its output.
    ///
    /// # Errors
    /// A [`Breach`] of `wanted` when it lives on for `patience`.
    pub async fn exit(&mut self, wanted: &str, patience: Duration) -> anyhow::Result<ExitStatus> {
        let status = tokio::time::timeout(patience, self.child.wait())
            .await
            .map_err(|_| Breach::new(wanted, format!("was still running after {patience:?}")))?
            .context("waiting for the fixture")?;
        while let Some(read) = self.readers.join_next().await {
            read.context("reading the fixture's output")?;
        }
        self.journal.note("fixture", &format!("{status}"));
        Ok(status)
    }

    /// Everything that the fixture has printed.
    #[must_use]
    pub fn output(&self) -> String {
        self.output
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[derive(Clone)]
struct Reader {
    output: Arc<Mutex<String>>,
    journal: Journal,
}

impl Reader {
    async fn lines_of(
        self,
        name: &'static str,
        stream: impl AsyncRead + Unpin,
        ready: Option<watch::Sender<bool>>,
    ) {
        let mut lines = BufReader::new(stream).lines();
        loop {
            let line = match lines.next_line().await {
                Ok(Some(line)) => line,
                Ok(None) => return,
                Err(error) => {
                    self.journal.note(name, &format!("unreadable: {error}"));
                    return;
                }
            };
            self.journal.note(name, &line);
            if let Some(ready) = &ready
                && line.trim() == "ready"
            {
                ready.send_replace(true);
            }
            let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
            output.push_str(&line);
            output.push('\n');
        }
    }
}
