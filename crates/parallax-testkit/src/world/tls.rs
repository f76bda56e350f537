//! A world that speaks TLS: its authority, and who is told to trust it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{World, held};
use crate::conformance::PrivateCa;

const ROOT: &str = "ca.pem";
const LEAF: &str = "tls.pem";
const KEY: &str = "tls.key";

impl World {
    /// What `PARALLAX_CA_FILE` names in this world; `None` where the server speaks plaintext.
    #[must_use]
    pub fn ca_file(&self) -> Option<PathBuf> {
        held(&self.serve).tls.then(|| self.dir().join(ROOT))
    }

    /// The root of an authority that signed nothing in this world.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn another_authority(&self) -> Result<PathBuf> {
        let path = self.dir().join("other.pem");
        write(&path, &PrivateCa::new()?.root_pem)?;
        Ok(path)
    }

    /// Makes the files that [`World::tls_args`] and [`World::ca_file`] name.
    pub(super) fn make_authority(&self) -> Result<()> {
        let ca = PrivateCa::new()?;
        write(&self.dir().join(ROOT), &ca.root_pem)?;
        write(&self.dir().join(LEAF), &ca.leaf_pem)?;
        write(&self.dir().join(KEY), &ca.key_pem)
    }

    pub(super) fn tls_args(&self) -> Vec<PathBuf> {
        let file = |name| self.dir().join(name);
        match held(&self.serve).tls {
            true => vec![
                "--tls-cert".into(),
                file(LEAF),
                "--tls-key".into(),
                file(KEY),
            ],
            false => Vec::new(),
        }
    }

    /// The program, told whom to trust.
    pub(super) fn client_command(&self) -> tokio::process::Command {
        let mut command = self.command();
        if let Some(file) = self.ca_file() {
            command.env("PARALLAX_CA_FILE", file);
        }
        command
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
