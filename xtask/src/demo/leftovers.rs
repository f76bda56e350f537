//! Whether anything that a server started is still there after it was stopped.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::steps::say;

/// A process that was told to end may need a moment to be reaped.
const SETTLE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);

/// An error that names every process whose command line, folder or environment mentions `data`.
pub fn none(data: &Path) -> Result<()> {
    let started = Instant::now();
    loop {
        let found = processes_of(data)?;
        if found.is_empty() {
            say("   nothing is left running");
            return Ok(());
        }
        if started.elapsed() > SETTLE {
            bail!(
                "left running after the server ended:\n  {}",
                found.join("\n  ")
            );
        }
        thread::sleep(POLL);
    }
}

fn processes_of(data: &Path) -> Result<Vec<String>> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let pid = entry.file_name().to_string_lossy().into_owned();
        if pid == own || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        if belongs_to(&entry.path(), data) {
            // The process may end while we look; then there is no name to show.
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            found.push(format!("{pid} {}", command.trim()));
        }
    }
    Ok(found)
}

/// Other people's processes cannot be read and are not ours.
fn belongs_to(process: &Path, data: &Path) -> bool {
    let mentions = |name: &str| {
        fs::read(process.join(name)).is_ok_and(|text| {
            let needle = data.as_os_str().as_bytes();
            text.windows(needle.len()).any(|window| window == needle)
        })
    };
    let works_there = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(data));
    works_there || mentions("cmdline") || mentions("environ")
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_that_works_in_the_folder_is_found_until_it_ends() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        // `cat` waits for its input to end.
        let mut child = Command::new("cat")
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .spawn()
            .expect("cat exists");
        let found = processes_of(dir.path()).expect("/proc can be read");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(&child.id().to_string()), "{found:?}");
        drop(child.stdin.take());
        child.wait().expect("it ends");
        none(dir.path()).expect("nothing is left");
    }
}
