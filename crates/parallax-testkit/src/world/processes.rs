//! Which processes belong to a world, and ending them.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::environment::{parallax, path};

/// How long `parallax down` may take when a test has failed.
const CLEAR_PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub pid: u32,
    /// Its command line, words separated by spaces.
    pub command: String,
}

/// The living processes whose command line, environment or working folder names `dir`: everything
/// that a product in `dir` has started, since shims, builds and agents are told paths in there.
///
/// # Panics
/// When `/proc` cannot be listed.
#[must_use]
pub fn processes_of(dir: &Path) -> Vec<Found> {
    let own = std::process::id();
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if pid != own && belongs(&entry.path(), dir) {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            found.push(Found { pid, command });
        }
    }
    found
}

/// A process that ended while it was looked at, or that is only waited for, has none of these.
fn belongs(process: &Path, dir: &Path) -> bool {
    let needle = dir.as_os_str().as_bytes();
    let mentions = |file: &str| {
        fs::read(process.join(file))
            .is_ok_and(|text| text.windows(needle.len()).any(|window| window == needle))
    };
    mentions("cmdline")
        || mentions("environ")
        || fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir))
}

/// Ends all that runs in a world: as a person would, then without asking.
pub(super) fn clear(dir: &Path, data: &Path) {
    let down = Command::new(parallax())
        .arg("down")
        .arg("--data-dir")
        .arg(data)
        .env_clear()
        .env("PATH", path())
        .env("HOME", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let deadline = Instant::now() + CLEAR_PATIENCE;
    if let Ok(mut down) = down {
        while matches!(down.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
    }
    let deadline = Instant::now() + CLEAR_PATIENCE;
    loop {
        let left = processes_of(dir);
        if left.is_empty() || Instant::now() > deadline {
            return;
        }
        for process in left {
            // One that has just ended by itself is what is wanted.
            let _ = signal(process.pid, Signal::KILL);
        }
        std::thread::sleep(POLL);
    }
}

/// Sends a signal.
pub(super) fn signal(pid: u32, signal: Signal) -> rustix::io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.ok_or(rustix::io::Errno::SRCH)?, signal)
}
