//! What the host asks of a shim: `spec.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable::{self, FileError};

/// The format of [`ShimSpec`] that this build reads and writes.
pub const SPEC_VERSION: u32 = 1;

/// One replica: what to run, where, and within which bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShimSpec {
    /// [`SPEC_VERSION`].
    pub version: u32,
    /// The command and its arguments. A command without `/` is looked up in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment of the child: nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// The child's working directory, absolute.
    pub cwd: PathBuf,
    /// Milliseconds between SIGTERM and SIGKILL when a stop names no other grace.
    pub stop_grace_ms: u64,
    /// Milliseconds after which the whole process is stopped; for build steps.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
    /// Bounds of the log.
    #[serde(default)]
    pub log: LogLimits,
    /// Existing cgroup directories (one per v1 hierarchy, or one of v2) that the child enters
    /// before it executes its command. They must belong to this replica alone: whatever is left in
    /// them at the end is killed.
    #[serde(default)]
    pub cgroup_dirs: Vec<PathBuf>,
    /// Limits of each process of the tree.
    #[serde(default)]
    pub rlimits: Rlimits,
    /// What keeps the child away from everything else.
    pub isolation: Isolation,
}

/// Bounds of a replica's log on disk and in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogLimits {
    /// Bytes after which a new segment begins.
    pub segment_bytes: u64,
    /// Segments that are kept, the one being written included; at least 1.
    pub keep_segments: u32,
    /// Bytes after which a line is split into several records.
    pub max_line_bytes: u32,
}

impl Default for LogLimits {
    /// 8 segments of 4 MiB: enough to see what led to a crash, little enough that a thousand
    /// chatty replicas fit on a disk. 64 KiB lines: one pipe buffer.
    fn default() -> Self {
        Self {
            segment_bytes: 4 << 20,
            keep_segments: 8,
            max_line_bytes: 64 << 10,
        }
    }
}

/// Resource limits set on the child. A limit above the hard limit of the shim is lowered to it:
/// the host may lack the right to raise limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rlimits {
    /// Open files per process.
    pub nofile: Option<u64>,
    /// Processes of the child's user, all its replicas together. The kernel does not apply it to
    /// user 0: use a pids cgroup there.
    pub nproc: Option<u64>,
    /// Bytes of address space per process.
    pub address_space_bytes: Option<u64>,
    /// Bytes of the largest file that may be written.
    pub file_size_bytes: Option<u64>,
    /// Bytes of a core file; 0 when absent, because a core file holds secrets.
    pub core: Option<u64>,
}

/// What keeps the child from the rest of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Isolation {
    /// Nothing. Only for one trusted tenant.
    None,
    /// A Landlock domain (file access, signals, abstract sockets, tracing), no capabilities, no
    /// new privileges, and optionally another user.
    Landlock {
        /// Paths that may be read and executed. Missing ones are skipped and logged.
        read_only: Vec<PathBuf>,
        /// Paths that may also be changed. Missing ones are skipped and logged.
        read_write: Vec<PathBuf>,
        /// The user to become; the shim's own when absent.
        #[serde(default)]
        uid: Option<u32>,
        /// The group to become; `uid` when absent but `uid` is given.
        #[serde(default)]
        gid: Option<u32>,
    },
    /// Namespaces made by the `bwrap` program.
    Bubblewrap {
        /// Where `bwrap` is.
        program: PathBuf,
        /// Paths that are visible read-only. Missing ones are skipped and logged.
        read_only: Vec<PathBuf>,
        /// Paths that are visible and may be changed. Missing ones are skipped and logged.
        read_write: Vec<PathBuf>,
    },
    /// Another user without capabilities: file modes are the only wall.
    Uid {
        /// The user to become.
        uid: u32,
        /// The group to become.
        gid: u32,
    },
}

/// Why a spec cannot be carried out, before anything was started.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpecError {
    /// There is nothing to run.
    #[error("the command is empty; name a program in argv")]
    EmptyCommand,
    /// A string that no process can be given.
    #[error("{field} contains a NUL byte, which no process can be given; remove it")]
    Nul {
        /// Which part of the spec.
        field: String,
    },
    /// A variable name that no environment can hold.
    #[error("environment variable {name:?} needs a name without '='")]
    EnvName {
        /// The name.
        name: String,
    },
    /// The working directory depends on where the shim runs.
    #[error("the working directory {0} is not absolute")]
    RelativeCwd(PathBuf),
    /// A log that could keep nothing.
    #[error(
        "log limits must be at least 4096 bytes per segment, 1 segment and 256 bytes per line, and lines at most 16 MiB"
    )]
    LogLimits,
}

/// Longest line that may be configured: the reader refuses to buffer more.
pub(crate) const MAX_LINE_BYTES: u32 = 16 << 20;

impl ShimSpec {
    /// Reads `spec.json` of an incarnation folder; `None` when the host wrote none.
    ///
    /// # Errors
    /// When it cannot be read, or has another version.
    pub fn load(dir: &Path) -> Result<Option<Self>, FileError> {
        let path = dir.join(crate::SPEC_FILE);
        let spec: Option<Self> = durable::read_json(&path)?;
        match spec {
            Some(spec) if spec.version != SPEC_VERSION => Err(FileError::Version {
                path,
                found: spec.version,
                expected: SPEC_VERSION,
            }),
            spec => Ok(spec),
        }
    }

    /// Writes `spec.json` into an incarnation folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn store(&self, dir: &Path) -> Result<(), FileError> {
        durable::write_json(&dir.join(crate::SPEC_FILE), self)
    }

    /// Checks what can be checked without touching the machine.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check(&self) -> Result<(), SpecError> {
        if self.argv.first().is_none_or(String::is_empty) {
            return Err(SpecError::EmptyCommand);
        }
        if self.argv.iter().any(|arg| arg.contains('\0')) {
            return Err(SpecError::Nul {
                field: "argv".to_owned(),
            });
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains('=') {
                return Err(SpecError::EnvName { name: name.clone() });
            }
            if name.contains('\0') || value.contains('\0') {
                return Err(SpecError::Nul {
                    field: format!("environment variable {name:?}"),
                });
            }
        }
        if !self.cwd.is_absolute() {
            return Err(SpecError::RelativeCwd(self.cwd.clone()));
        }
        let log = &self.log;
        if log.segment_bytes < 4096
            || log.keep_segments < 1
            || !(256..=MAX_LINE_BYTES).contains(&log.max_line_bytes)
        {
            return Err(SpecError::LogLimits);
        }
        Ok(())
    }
}
