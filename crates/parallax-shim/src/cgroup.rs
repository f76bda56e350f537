//! Per-replica cgroups: limits, usage and the surest way to kill a tree. Plain file access, for
//! version 1, version 2 and machines that have both.

mod layout;
mod limits;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::procfs;
use crate::tree;

pub use layout::{CgroupVersion, Cgroups, Controller};

/// How long [`Cgroup::remove`] waits for killed processes to leave.
const REMOVE_PATIENCE: Duration = Duration::from_millis(500);

/// Limits of one replica; absent ones are not set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CgroupLimits {
    /// Thousandths of one processor.
    pub cpu_millis: Option<u32>,
    /// Bytes of memory, page cache included.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

/// What a replica has used, as far as the machine's controllers tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupUsage {
    /// Processor time, nanoseconds.
    pub cpu_ns: Option<u64>,
    /// Memory without the page cache that can be dropped at once, bytes.
    pub memory_bytes: Option<u64>,
    /// How often the kernel has killed a process because of the memory limit.
    pub oom_kills: Option<u64>,
}

/// Why a cgroup could not be made, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// No writable hierarchy has the controller that a limit needs.
    #[error(
        "this machine offers no writable {controller} cgroup; leave the limit out or give Parallax a delegated cgroup"
    )]
    Unavailable {
        /// The controller.
        controller: Controller,
    },
    /// The name would leave its parent, or hide.
    #[error("{0:?} cannot name a cgroup: use letters, digits, '-', '_' and '.', not '.' first")]
    Name(String),
    /// There are still processes in it.
    #[error("{path} still holds processes; kill them first")]
    Occupied {
        /// The cgroup.
        path: PathBuf,
    },
}

impl CgroupError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// The cgroup of one replica: one folder for each hierarchy that takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    dirs: Vec<PathBuf>,
}

impl Cgroup {
    /// The cgroup that an earlier process created, from its folders
    /// ([`crate::spec::ShimSpec::cgroup_dirs`]).
    pub fn from_dirs(dirs: Vec<PathBuf>) -> Self {
        Self { dirs }
    }

    /// The folders, for [`crate::spec::ShimSpec::cgroup_dirs`].
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// What its processes have used, those that have ended included.
    ///
    /// # Errors
    /// When a counter exists but cannot be read.
    pub fn usage(&self) -> Result<CgroupUsage, CgroupError> {
        limits::usage(&self.dirs)
    }

    /// Kills one round of what is inside; returns the processes that were seen alive. Call it until
    /// it returns none.
    pub fn kill(&self) -> BTreeSet<u32> {
        kill_all(&self.dirs)
    }

    /// Removes the folders; ones that are gone are fine.
    ///
    /// # Errors
    /// [`CgroupError::Occupied`] when processes stay inside for half a second.
    pub fn remove(&self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + REMOVE_PATIENCE;
        for dir in &self.dirs {
            while let Err(error) = fs::remove_dir(dir) {
                match error.kind() {
                    io::ErrorKind::NotFound => break,
                    io::ErrorKind::ResourceBusy if Instant::now() < deadline => {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    io::ErrorKind::ResourceBusy => {
                        return Err(CgroupError::Occupied { path: dir.clone() });
                    }
                    _ => return Err(CgroupError::io("remove", dir)(error)),
                }
            }
        }
        Ok(())
    }
}

/// One round of killing everything in `dirs`, cgroups below included. Returns who was alive.
///
/// Errors show as survivors, or as an empty cgroup that no longer exists: a caller that loops until
/// nothing is left needs no other answer.
pub(crate) fn kill_all(dirs: &[PathBuf]) -> BTreeSet<u32> {
    let mut alive = BTreeSet::new();
    for dir in dirs {
        // No forks from here on, so that a fork bomb cannot outrun the killing. Hierarchies
        // without the pids controller have no such file, and there the loop has to win.
        let _ = write_existing(&dir.join("pids.max"), "0");
        // Version 2 kills the whole subtree at once; version 1 has no such file.
        let _ = write_existing(&dir.join("cgroup.kill"), "1");
        kill_members(dir, &mut alive);
    }
    alive
}

fn kill_members(dir: &Path, alive: &mut BTreeSet<u32>) {
    for pid in members(dir) {
        let Ok(Some(process)) = procfs::stat(pid) else {
            continue;
        };
        // A dead process may stay listed until it is reaped.
        if !process.dead && tree::signal(&process, Signal::KILL).unwrap_or(true) {
            alive.insert(pid);
        }
    }
    let below = fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in below {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            kill_members(&entry.path(), alive);
        }
    }
}

fn members(dir: &Path) -> Vec<u32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The out-of-memory kills of a replica so far; `None` when no controller tells.
pub(crate) fn oom_kills(dirs: &[PathBuf]) -> Option<u64> {
    limits::oom_kills(dirs).unwrap_or(None)
}

/// Opens without creating: in a folder that is no cgroup nothing must appear.
fn write_existing(path: &Path, value: &str) -> io::Result<()> {
    use std::io::Write;
    fs::File::options()
        .write(true)
        .open(path)?
        .write_all(value.as_bytes())
}

fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    write_existing(path, value).map_err(CgroupError::io("write", path))
}

/// `None` when there is no such file.
fn read(path: &Path) -> Result<Option<String>, CgroupError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        // ENODEV: the cgroup was removed while its file was open.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(libc::ENODEV) =>
        {
            Ok(None)
        }
        Err(source) => Err(CgroupError::io("read", path)(source)),
    }
}

#[cfg(test)]
mod tests;
