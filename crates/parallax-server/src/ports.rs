//! The ports that a server had last (`DIR/ports.json`).
//!
//! A server that is told to take any port takes these again: agents that outlived the server before
//! it dial where that one was.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What is remembered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Ports {
    /// Of the listener for everybody.
    pub(crate) public: Option<u16>,
    /// Of the listener for agents on this machine, where they need one of their own.
    pub(crate) local: Option<u16>,
}

impl Ports {
    /// What an earlier server of the folder has left. None where it left nothing that can be read:
    /// then any port will do.
    pub(crate) fn recall(data_dir: &Path) -> Self {
        let path = file(data_dir);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::warn!(%error, file = %path.display(), "not what a server writes; any port will do");
                Self::default()
            }),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%error, file = %path.display(), "cannot be read; any port will do");
                }
                Self::default()
            }
        }
    }

    /// Leaves them for the next server. A disk that is full keeps no server from serving: the next
    /// one may then take another port.
    pub(crate) fn remember(self, data_dir: &Path) {
        let path = file(data_dir);
        let temporary = path.with_extension("json.new");
        let write = || -> io::Result<()> {
            let mut file = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&serde_json::to_vec(&self)?)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        if let Err(error) = write() {
            tracing::warn!(%error, file = %path.display(), "the next server may take another port");
        }
    }
}

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("ports.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_remembered_is_recalled_and_damage_is_no_obstacle() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(Ports::recall(dir.path()), Ports::default());
        let ports = Ports {
            public: Some(4711),
            local: None,
        };
        ports.remember(dir.path());
        assert_eq!(Ports::recall(dir.path()), ports);
        fs::write(file(dir.path()), "{\"public\": \"many\"}").expect("the folder is writable");
        assert_eq!(Ports::recall(dir.path()), Ports::default());
    }
}
