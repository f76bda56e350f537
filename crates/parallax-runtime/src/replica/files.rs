//! The files of a replica that its agent reads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::record::Secret;
use crate::error::HostError;
use crate::layout::{ReplicaDir, make_private};

/// Makes the folders of a replica.
///
/// # Errors
/// When one cannot be made.
pub(crate) fn make_folders(dir: &ReplicaDir) -> Result<(), HostError> {
    for folder in [dir.path().to_path_buf(), dir.run(), dir.home(), dir.tmp()] {
        make_private(&folder)?;
    }
    Ok(())
}

/// Replaces the agent's credential (0400). A reader sees the old or the new one, whole.
///
/// # Errors
/// When the file cannot be written; the old one is then still in place.
pub(crate) fn write_token(dir: &ReplicaDir, token: &Secret) -> Result<(), HostError> {
    replace(&dir.token(), token.reveal().as_bytes())
}

/// Writes the certificates of the control plane, or removes them when there are none.
///
/// # Errors
/// When the file cannot be written or removed.
pub(crate) fn write_ca(dir: &ReplicaDir, pem: &[u8]) -> Result<(), HostError> {
    let path = dir.ca();
    if pem.is_empty() {
        return match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(HostError::io("remove", &path)(error))
            }
            _ => Ok(()),
        };
    }
    if fs::read(&path).is_ok_and(|old| old == pem) {
        return Ok(());
    }
    replace(&path, pem)
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), HostError> {
    let tmp = path.with_extension("new");
    // One that a crash left behind may be read-only, and could not be opened again.
    if let Err(error) = fs::remove_file(&tmp)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(HostError::io("remove", &tmp)(error));
    }
    let write = |file: &mut File| {
        file.write_all(bytes)?;
        file.sync_all()
    };
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(&tmp)
        .and_then(|mut file| write(&mut file))
        .map_err(HostError::io("write", &tmp))?;
    fs::rename(&tmp, path).map_err(HostError::io("rename", path))
}
