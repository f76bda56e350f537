//! What runs in a data directory: `server.json` or `host.json`, and the lock that says it is true.
//!
//! A server holds `server.lock` for as long as it lives, and `parallax host` its `host.lock`. The kernel lets go of it whatever happens
//! to the process, so a `server.json` without a held lock is what a killed server has left, and the
//! process number in it must not be believed: it may be somebody else's by now.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parallax_api::Time;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::exit::{Ended, Exit};

/// What a process is in a data directory. Of each there is at most one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    /// A host without a server: `parallax host`.
    Host,
}

impl Role {
    /// The word for people, and in file names.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Host => "host",
        }
    }

    fn file(self, data_dir: &Path) -> PathBuf {
        data_dir.join(format!("{}.json", self.as_str()))
    }

    fn lock(self, data_dir: &Path) -> PathBuf {
        data_dir.join(format!("{}.lock", self.as_str()))
    }
}

/// A client that looks whether a server runs holds the lock for an instant; a server that starts
/// meanwhile must not take it for another server.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
const LOCK_POLL: Duration = Duration::from_millis(10);

/// What `server.json` says. In `host.json`, the URL is that of the server it works for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) url: String,
    pub(crate) pid: u32,
    pub(crate) version: String,
    pub(crate) started_at: Time,
}

impl Running {
    /// For people: `the server at http://…`.
    #[must_use]
    pub(crate) fn described(&self, role: Role) -> String {
        match role {
            Role::Server => format!("the server at {}", self.url),
            Role::Host => format!("the host that works for {}", self.url),
        }
    }
}

/// Held by a server or host for as long as it lives.
#[derive(Debug)]
pub(crate) struct Claim {
    file: PathBuf,
    _lock: File,
}

/// The server or host that runs in `data_dir`.
///
/// # Errors
/// With [`Exit::Unavailable`] and what to do, when none runs.
pub(crate) fn find(data_dir: &Path, role: Role) -> Result<Running> {
    let file = role.file(data_dir);
    let word = role.as_str();
    let start = match role {
        Role::Server => "start one with `parallax serve`, or name another with --server URL",
        Role::Host => "start one with `parallax host`",
    };
    let absent = |message: String| Err(Ended::new(Exit::Unavailable, message).into());
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let dir = data_dir.display();
            return absent(format!("no {word} runs in {dir}; {start}"));
        }
        Err(error) => return Err(error).with_context(|| format!("reading {}", file.display())),
    };
    let running: Running = serde_json::from_slice(&text)
        .with_context(|| format!("{} is not what `parallax` writes", file.display()))?;
    if is_claimed(data_dir, role)? {
        return Ok(running);
    }
    absent(format!(
        "no {word} runs in {}: the one that {} speaks of (process {}) ended without cleaning up; {start}",
        data_dir.display(),
        file.display(),
        running.pid,
    ))
}

/// Whether one lives in `data_dir` now.
///
/// # Errors
/// When its lock cannot be looked at.
pub(crate) fn is_claimed(data_dir: &Path, role: Role) -> Result<bool> {
    let path = role.lock(data_dir);
    let lock = match File::open(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("opening {}", path.display())),
    };
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}

impl Claim {
    /// Makes this process the server or host of `data_dir`, which is created when it does not exist.
    ///
    /// # Errors
    /// When another runs there, or the folder cannot be written.
    pub(crate) fn take(data_dir: &Path, role: Role) -> Result<Self> {
        fs::create_dir_all(data_dir)
            .and_then(|()| fs::set_permissions(data_dir, Permissions::from_mode(0o700)))
            .with_context(|| format!("cannot use {} as the data directory", data_dir.display()))?;
        let path = role.lock(data_dir);
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        if !locked(&lock).with_context(|| format!("locking {}", path.display()))? {
            let running =
                find(data_dir, role).map(|r| format!(" at {} (process {})", r.url, r.pid));
            let which = running.unwrap_or_default(); // It is only now starting.
            anyhow::bail!(
                "a {} runs in {} already{which}; stop it with `parallax down`, or give this one another --data-dir",
                role.as_str(),
                data_dir.display()
            );
        }
        let file = role.file(data_dir);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing the old {}", file.display()))
            }
            _ => Ok(Self { file, _lock: lock }),
        }
    }

    /// Tells clients where the server is: all of the file appears at once.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn announce(&self, running: &Running) -> Result<()> {
        let temporary = self.file.with_extension("json.new");
        let write = || -> io::Result<()> {
            let mut file = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&serde_json::to_vec(running)?)?;
            file.sync_all()?;
            fs::rename(&temporary, &self.file)
        };
        write().with_context(|| format!("writing {}", self.file.display()))
    }
}

impl Drop for Claim {
    /// A client would not believe the file once the lock is gone; this saves it the question.
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.file)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, file = %self.file.display(), "could not be removed");
        }
    }
}

fn locked(lock: &File) -> io::Result<bool> {
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                std::thread::sleep(LOCK_POLL);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use parallax_core::time::Timestamp;

    use super::*;
    use crate::exit;

    fn example() -> Running {
        Running {
            url: "http://127.0.0.1:7400".to_owned(),
            pid: std::process::id(),
            version: "0.1.0".to_owned(),
            started_at: Timestamp::from_unix_micros(1_790_000_000_000_000).into(),
        }
    }

    #[test]
    fn a_server_is_found_while_it_holds_its_claim_and_not_after() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let claim = Claim::take(dir.path(), Role::Server).expect("nobody else is there");
        claim.announce(&example()).expect("the folder is writable");
        assert_eq!(find(dir.path(), Role::Server).expect("it runs"), example());
        drop(claim);
        let error = find(dir.path(), Role::Server).expect_err("it is gone");
        assert_eq!(exit::of(&error), Exit::Unavailable);
        assert!(!Role::Server.file(dir.path()).exists());
    }

    #[test]
    fn what_a_killed_server_has_left_is_not_believed() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let text = serde_json::to_vec(&example()).expect("it serialises");
        fs::write(Role::Server.file(dir.path()), text).expect("the folder is writable");
        let error = find(dir.path(), Role::Server)
            .expect_err("the process number is alive but no server's");
        assert!(
            error.to_string().contains("ended without cleaning up"),
            "{error}"
        );
    }

    #[test]
    fn a_second_server_in_one_folder_is_refused_with_the_first_named() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let claim = Claim::take(dir.path(), Role::Server).expect("nobody else is there");
        claim.announce(&example()).expect("the folder is writable");
        let error = Claim::take(dir.path(), Role::Server).expect_err("one is there");
        assert!(
            error.to_string().contains("at http://127.0.0.1:7400"),
            "{error}"
        );
    }
}
