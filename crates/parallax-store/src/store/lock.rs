//! The lock that keeps a second server off a SQLite database.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::StoreError;

/// Held for as long as the server lives. A lock of the kernel's (flock), which ends with the
/// process however it ends: no stale lock is left behind, and the file may stay.
pub(super) struct LockFile {
    _file: File,
}

impl LockFile {
    /// Takes the lock beside `database` and leaves this process's id in its file for others to
    /// name.
    pub(super) fn take(database: &Path) -> Result<Self, StoreError> {
        let path = path_beside(database);
        let failed = |error| {
            StoreError::setup_from(format!("the lock file {} failed", path.display()), error)
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let database = database.display().to_string();
                return Err(StoreError::AlreadyServed {
                    database,
                    holder: holder(&mut file),
                });
            }
            Err(error) => return Err(failed(error.into())),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
            .map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn path_beside(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(32).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => format!("process {}", text.trim()),
        // Between the other's lock and its first write; or a file that cannot be read.
        Ok(_) | Err(_) => "its process id is not known".to_owned(),
    }
}
