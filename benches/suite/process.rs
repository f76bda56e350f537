//! A `parallax serve` that a bench starts, measures and stops.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use benches::conditions::kibibytes;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(60);
/// Below the resolution that a figure in milliseconds needs.
const POLL: Duration = Duration::from_micros(200);

/// A running server; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// From the start of the process to `server.json`.
    pub(crate) ready_after: Duration,
    /// Where the server answers.
    pub(crate) url: String,
    data: PathBuf,
}

#[derive(Deserialize)]
struct Ready {
    url: String,
    pid: u32,
}

impl Server {
    /// Starts `binary serve` on `data` and waits until it is ready.
    pub(crate) fn start(binary: &Path, data: &Path) -> Result<Self> {
        let log = data.with_extension("log");
        let output = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let errors = output.try_clone().context("sharing the log file")?;
        let mut command = Command::new(binary);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
        command.arg(data).stdin(Stdio::null());
        command.stdout(output).stderr(errors);
        let started = Instant::now();
        let child = command
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let mut server = Self {
            child,
            ready_after: Duration::ZERO,
            url: String::new(),
            data: data.to_owned(),
        };
        while started.elapsed() < START_DEADLINE {
            if let Some(url) = server.ready_url() {
                server.ready_after = started.elapsed();
                server.url = url;
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait()? {
                let log = fs::read_to_string(&log).context("reading the server's log")?;
                bail!("the server ended before it was ready: {status}\n{log}");
            }
            thread::sleep(POLL);
        }
        bail!("the server was not ready within {START_DEADLINE:?}")
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        memory(self.child.id(), "status", "VmRSS")
    }

    /// SIGTERM, and the wait for the end.
    pub(crate) fn stop(mut self) -> Result<ExitStatus> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.expect("the kernel gives out positive process ids");
        kill_process(pid, Signal::TERM).context("signalling the server")?;
        let started = Instant::now();
        while started.elapsed() < STOP_DEADLINE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
        bail!("the server did not end within {STOP_DEADLINE:?} of SIGTERM")
    }

    /// The file is replaced by a rename, so it is missing, an older server's, or whole.
    fn ready_url(&self) -> Option<String> {
        let text = fs::read(self.data.join("server.json")).ok()?;
        let ready: Ready = serde_json::from_slice(&text).ok()?;
        (ready.pid == self.child.id()).then_some(ready.url)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended, or about to: either way there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line of `/proc/PID/FILE`, in bytes.
pub(crate) fn memory(pid: u32, file: &str, line: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let kib = kibibytes(&text, line).with_context(|| format!("{path} has no line {line}"))?;
    Ok(kib * 1024)
}
