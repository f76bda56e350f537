//! A virtual environment names its own path in the scripts it holds.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Longer scripts are no launchers of an environment.
const MAX_SCRIPT_BYTES: u64 = 256 * 1024;

/// Mends an environment that was copied to `venv` and made at `made_at` (both the folder with
/// `bin/`): the first line of its scripts, and what activates it.
///
/// # Errors
/// When a script cannot be read or written.
pub fn relocate_venv(venv: &Path, made_at: &Path) -> io::Result<()> {
    let (Some(old), Some(new)) = (made_at.to_str(), venv.to_str()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidFilename));
    };
    for entry in fs::read_dir(venv.join("bin"))? {
        let entry = entry?;
        let path = entry.path();
        // Links lead to the interpreter, which does not move.
        let meta = fs::symlink_metadata(&path)?;
        if meta.is_file() && meta.len() <= MAX_SCRIPT_BYTES {
            mend(&path, old, new, meta.permissions().mode())?;
        }
    }
    let config = venv.join("pyvenv.cfg");
    if config.is_file() {
        mend(&config, old, new, 0o644)?;
    }
    Ok(())
}

fn mend(path: &Path, old: &str, new: &str, mode: u32) -> io::Result<()> {
    let bytes = fs::read(path)?;
    let Ok(text) = String::from_utf8(bytes) else {
        return Ok(()); // A binary.
    };
    if !text.contains(old) {
        return Ok(());
    }
    // A new file: the old one may be shared with the cache by a hard link.
    fs::remove_file(path)?;
    fs::write(path, text.replace(old, new))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o777))
}
