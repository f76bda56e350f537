//! The server process of the demo: started, waited for, and always ended.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use crate::process::{Workspace, run};
use crate::steps::{Progress, say, seconds};

/// A first start creates a database and probes the machine; a slow disk takes seconds.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Draining every replica, with each one's grace.
const STOP_DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at a file or a process.
const POLL: Duration = Duration::from_millis(50);
/// What of the server's log an error shows.
const TAIL_LINES: usize = 20;

/// `DIR/server.json`, written once the server is ready.
#[derive(Debug, Deserialize)]
struct Ready {
    url: String,
    pid: u32,
}

/// A running `parallax serve`. Dropping it stops it, however the demo ended.
#[derive(Debug)]
pub struct Server {
    child: RefCell<Child>,
    binary: PathBuf,
    data: PathBuf,
    log: PathBuf,
    url: String,
}

impl Server {
    /// Starts the server and waits until it is ready.
    ///
    /// It gets a process group of its own: Ctrl-C in the terminal reaches the demo, and the demo
    /// decides when the server hears of it.
    pub fn start(
        workspace: &Workspace,
        binary: &Path,
        data: &Path,
        listen: &str,
        log: &Path,
        stop: &AtomicBool,
    ) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let errors = output.try_clone().context("sharing the log file")?;
        let mut command = workspace.command(binary);
        command.args(["serve", "--listen", listen, "--data-dir"]);
        command.arg(data).stdin(Stdio::null());
        command.stdout(output).stderr(errors).process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let mut server = Self {
            child: RefCell::new(child),
            binary: binary.to_owned(),
            data: data.to_owned(),
            log: log.to_owned(),
            url: String::new(),
        };
        server.url = server.wait_ready(stop)?;
        say(&format!("   ready at {}", server.url));
        Ok(server)
    }

    /// Where the server answers.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server's data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A client command against this server; the admin key lies in the data directory.
    pub fn client(&self, workspace: &Workspace) -> Command {
        let mut command = workspace.command(&self.binary);
        command.args(["--server", &self.url, "--data-dir"]);
        command.arg(&self.data);
        command
    }

    /// An error with the log's end when the server is no longer there.
    pub fn expect_running(&self) -> Result<()> {
        match self.child.borrow_mut().try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the server ended by itself: {status}\n{}", self.log_tail()),
        }
    }

    /// `parallax down`: the way that scripts stop a server and all that it runs.
    pub fn down(&self, workspace: &Workspace) -> Result<()> {
        run(self.client(workspace).arg("down"))?;
        self.wait_stopped()
    }

    /// SIGINT: what a person's Ctrl-C does to a server in the foreground.
    pub fn interrupt(&self) -> Result<()> {
        self.signal(Signal::INT)?;
        self.wait_stopped()
    }

    fn wait_ready(&self, stop: &AtomicBool) -> Result<String> {
        let path = self.data.join("server.json");
        let started = Instant::now();
        while started.elapsed() < START_DEADLINE {
            self.expect_running()?;
            if stop.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            if let Some(ready) = read_ready(&path)?
                && ready.pid == self.child.borrow().id()
            {
                return Ok(ready.url);
            }
            thread::sleep(POLL);
        }
        bail!(
            "the server was not ready within {}: {} is missing or another process's\n{}",
            seconds(START_DEADLINE),
            path.display(),
            self.log_tail()
        )
    }

    fn wait_stopped(&self) -> Result<()> {
        let mut progress = Progress::default();
        let Some(status) = self.ended_within(STOP_DEADLINE, &mut progress)? else {
            bail!(
                "the server did not end within {}\n{}",
                seconds(STOP_DEADLINE),
                self.log_tail()
            );
        };
        if status.success() {
            return Ok(());
        }
        bail!("the server ended with {status}\n{}", self.log_tail())
    }

    fn ended_within(
        &self,
        deadline: Duration,
        progress: &mut Progress,
    ) -> Result<Option<ExitStatus>> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.borrow_mut().try_wait()? {
                progress.finish();
                return Ok(Some(status));
            }
            if started.elapsed() > deadline {
                progress.finish();
                return Ok(None);
            }
            let waited = started.elapsed().as_secs();
            if waited > 0 {
                progress.show(&format!("draining, {waited} s"));
            }
            thread::sleep(POLL);
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.child.borrow().id();
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
        let pid = pid.expect("the kernel gives out positive process ids");
        kill_process(pid, signal).context("signalling the server")
    }

    fn log_tail(&self) -> String {
        let text = match fs::read(&self.log) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => return format!("(its log cannot be read: {error})"),
        };
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        format!("the end of its log:\n  {}", lines[from..].join("\n  "))
    }
}

impl Drop for Server {
    /// After a failure: replicas must not outlive the demo, so the server gets to drain first.
    fn drop(&mut self) {
        if !matches!(self.child.borrow_mut().try_wait(), Ok(None)) {
            return;
        }
        // Nothing is left to tell anyone: a process that is gone is what we want.
        let _ = self.signal(Signal::INT);
        let ended = self.ended_within(STOP_DEADLINE, &mut Progress::default());
        if !matches!(ended, Ok(Some(_))) {
            let mut child = self.child.borrow_mut();
            // As above.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn read_ready(path: &Path) -> Result<Option<Ready>> {
    match fs::read(path) {
        Ok(bytes) => {
            let ready = serde_json::from_slice(&bytes);
            ready
                .map(Some)
                .with_context(|| format!("{}: not what `serve` writes", path.display()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}
