//! What a shim leaves behind: `state.json` while the replica runs, `exit.json` when it has ended.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::durable::{self, FileError};

/// The format of both records that this build reads and writes.
pub const RECORD_VERSION: u32 = 1;

/// Who runs a replica. Process ids come with start times because ids are used again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRecord {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// The shim.
    pub shim_pid: u32,
    /// When the shim started, in clock ticks since boot (`/proc/PID/stat` field 22).
    pub shim_start_time: u64,
    /// The replica's main process.
    pub child_pid: u32,
    /// When it started, in clock ticks since boot.
    pub child_start_time: u64,
    /// The boot in which these ids mean anything.
    pub boot_id: String,
    /// When the command was executed, in microseconds since 1970.
    pub started_unix_us: u64,
    /// Inode numbers of the pipes of standard output and error: a process of the tree that left
    /// its session is often still known by them.
    #[serde(default)]
    pub output_pipes: Vec<u64>,
}

/// How a replica ended. Exactly one of `code` and `signal` is present, unless it never started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// The exit code of the main process.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether the kernel killed a process of the tree because the memory limit was reached.
    pub out_of_memory: bool,
    /// When the main process was seen to have ended, in microseconds since 1970.
    pub ended_unix_us: u64,
    /// The last line that was not blank, at most 1 KiB.
    pub last_log_line: String,
    /// Why it ended.
    pub cause: ExitCause,
    /// Why the command could not be started; only with [`ExitCause::StartFailed`].
    pub start_error: Option<String>,
    /// Processor time of the whole tree, nanoseconds.
    pub cpu_ns: Option<u64>,
    /// The largest resident set of one process of the tree, bytes.
    pub max_rss_bytes: Option<u64>,
}

/// Why a replica ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitCause {
    /// By itself, or by a signal that the shim did not send.
    Exited,
    /// It was asked to stop and did so within its grace, or it was asked to be killed.
    Stopped,
    /// It was asked to stop, did not, and was killed.
    KilledAfterGrace,
    /// It ran longer than `deadline_ms`.
    Deadline,
    /// Its command could not be executed.
    StartFailed,
}

impl StateRecord {
    /// Reads `state.json`; `None` when nothing was started.
    ///
    /// # Errors
    /// When it cannot be read or has another version.
    pub fn load(dir: &Path) -> Result<Option<Self>, FileError> {
        let path = dir.join(crate::STATE_FILE);
        let record: Option<Self> = durable::read_json(&path)?;
        checked(&path, record, |record| record.version)
    }
}

impl ExitRecord {
    /// Reads `exit.json`; `None` when no end was recorded.
    ///
    /// # Errors
    /// When it cannot be read or has another version.
    pub fn load(dir: &Path) -> Result<Option<Self>, FileError> {
        let path = dir.join(crate::EXIT_FILE);
        let record: Option<Self> = durable::read_json(&path)?;
        checked(&path, record, |record| record.version)
    }
}

fn checked<T>(
    path: &Path,
    record: Option<T>,
    version: impl Fn(&T) -> u32,
) -> Result<Option<T>, FileError> {
    match record {
        Some(record) if version(&record) != RECORD_VERSION => Err(FileError::Version {
            path: path.to_path_buf(),
            found: version(&record),
            expected: RECORD_VERSION,
        }),
        record => Ok(record),
    }
}
