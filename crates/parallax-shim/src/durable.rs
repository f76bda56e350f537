//! Small JSON files that survive a power cut: written beside their name, synced, renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a file of an incarnation folder could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried: "open", "write", ….
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The file exists but does not hold what it should.
    #[error("{path} is damaged or was written by another version of Parallax")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where it stops making sense.
        #[source]
        source: serde_json::Error,
    },
    /// The file says that it has a format that this build does not know.
    #[error("{path} has format version {found}, this build reads version {expected}")]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The version that this build reads.
        expected: u32,
    },
}

impl FileError {
    /// Wraps an I/O failure: `result.map_err(FileError::io("open", path))`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// Reads a JSON file; `None` when there is none.
///
/// # Errors
/// When the file exists but cannot be read or parsed.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(FileError::io("read", path)(source)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| FileError::Json {
            path: path.to_path_buf(),
            source,
        })
}

/// Writes a JSON file (0600) so that after a crash there is the old one or the new one, whole.
///
/// # Errors
/// When any step fails; the old file is then still in place.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    write_bytes(path, &to_json(path, value)?)
}

/// As [`write_json`], for any bytes.
pub(crate) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let tmp = tmp_path(path);
    let mut file = create(&tmp)?;
    file.write_all(bytes)
        .map_err(FileError::io("write", &tmp))?;
    file.sync_all().map_err(FileError::io("sync", &tmp))?;
    publish(&tmp, path)
}

/// A JSON file whose disk space was taken before it was needed, so that a full disk cannot
/// suppress the record of an end.
#[derive(Debug)]
pub(crate) struct Reserved {
    file: File,
    tmp: PathBuf,
    path: PathBuf,
}

impl Reserved {
    /// Takes `bytes` of space for `path`.
    pub(crate) fn new(path: &Path, bytes: usize) -> Result<Self, FileError> {
        let tmp = tmp_path(path);
        let mut file = create(&tmp)?;
        // Real bytes and not a hole: only written blocks are certain to be there later.
        file.write_all(&vec![b' '; bytes])
            .map_err(FileError::io("reserve space in", &tmp))?;
        file.sync_all().map_err(FileError::io("sync", &tmp))?;
        Ok(Self {
            file,
            tmp,
            path: path.to_path_buf(),
        })
    }

    /// Puts `value` into the reserved space and gives it its name. May be called again after a
    /// failure.
    pub(crate) fn commit<T: Serialize>(&self, value: &T) -> Result<(), FileError> {
        use std::os::unix::fs::FileExt;
        let bytes = to_json(&self.path, value)?;
        self.file
            .write_all_at(&bytes, 0)
            .map_err(FileError::io("write", &self.tmp))?;
        self.file
            .set_len(bytes.len() as u64)
            .map_err(FileError::io("truncate", &self.tmp))?;
        self.file
            .sync_all()
            .map_err(FileError::io("sync", &self.tmp))?;
        publish(&self.tmp, &self.path)
    }
}

fn to_json<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>, FileError> {
    let mut bytes = serde_json::to_vec(value).map_err(|source| FileError::Json {
        path: path.to_path_buf(),
        source,
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn create(path: &Path) -> Result<File, FileError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(FileError::io("create", path))
}

fn publish(tmp: &Path, path: &Path) -> Result<(), FileError> {
    fs::rename(tmp, path).map_err(FileError::io("rename", path))?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(FileError::io("sync", parent))
}

fn tmp_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".tmp");
    PathBuf::from(name)
}
