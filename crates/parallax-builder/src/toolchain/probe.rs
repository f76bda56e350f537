//! Asks a program for its version.

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A cold interpreter on a busy machine needs a second or two; a hanging shim must not block us.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between looks at a child that should end within milliseconds.
const POLL: Duration = Duration::from_millis(5);
/// More than any version line.
const MAX_OUTPUT: u64 = 4096;

/// The first word with a dot of what `program --version` prints, without `v`; `None` when it does
/// not run, does not end in time, or prints no version: such a program is of no use to a build.
pub(super) fn version_of(program: &Path, search_path: &OsStr) -> Option<String> {
    let mut child = Command::new(program)
        .arg("--version")
        .env_clear()
        .env("PATH", search_path)
        // Package managers write caches into HOME; asking a version must leave nothing behind.
        .env("HOME", "/nonexistent")
        .env("COREPACK_ENABLE_NETWORK", "0")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?; // Not executable here: not a tool.
    let stdout = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        // An unreadable pipe leaves the text empty, which is no version.
        let _ = stdout.take(MAX_OUTPUT).read_to_end(&mut text);
        // The receiver is gone only after the deadline.
        let _ = sender.send(text);
    });
    let deadline = Instant::now() + DEADLINE;
    let succeeded = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.success(),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(POLL),
            Ok(None) | Err(_) => {
                // It may have ended meanwhile; either way it is reaped here.
                let _ = child.kill();
                let _ = child.wait();
                break false;
            }
        }
    };
    if !succeeded {
        return None;
    }
    // A grandchild may hold the pipe open: wait no longer than for the program itself.
    let left = deadline.saturating_duration_since(Instant::now());
    let text = receiver.recv_timeout(left).ok()?; // No output in time is no version.
    first_version(&String::from_utf8_lossy(&text))
}

fn first_version(text: &str) -> Option<String> {
    text.split_whitespace()
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_in_what_programs_print() {
        assert_eq!(first_version("v20.20.2\n").as_deref(), Some("20.20.2"));
        assert_eq!(first_version("Python 3.11.7\n").as_deref(), Some("3.11.7"));
        assert_eq!(
            first_version("uv 0.5.1 (abc 2026-01-01)").as_deref(),
            Some("0.5.1")
        );
        assert_eq!(first_version("no version"), None);
    }

    #[test]
    fn a_program_that_fails_has_no_version() {
        assert_eq!(
            version_of(Path::new("/bin/false"), OsStr::new("/bin")),
            None
        );
        assert_eq!(
            version_of(Path::new("/nonexistent/x"), OsStr::new("/bin")),
            None
        );
    }
}
