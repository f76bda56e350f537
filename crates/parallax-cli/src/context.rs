//! What every command is given.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::args::Globals;
use crate::client::{Api, Target};
use crate::config::Environment;
use crate::output::Output;
use crate::running::{self, Role};

/// The options that all commands share, resolved.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) globals: Globals,
    pub(crate) environment: Environment,
    pub(crate) output: Output,
    /// Absolute; may not exist yet.
    pub(crate) data_dir: PathBuf,
}

impl Context {
    /// Resolves the options of one run.
    ///
    /// # Errors
    /// When a relative path cannot be resolved: the current folder is gone.
    pub(crate) fn new(globals: Globals, environment: Environment, output: Output) -> Result<Self> {
        let data_dir = match &globals.data_dir {
            Some(dir) => dir.clone(),
            None => environment.default_data_dir(),
        };
        let data_dir = std::path::absolute(data_dir).context("resolving the data directory")?;
        Ok(Self {
            globals,
            environment,
            output,
            data_dir,
        })
    }

    /// A client of the server that was named, or else of the one that runs in the data directory.
    ///
    /// # Errors
    /// When no server is named and none runs, or no API key is found.
    pub(crate) fn api(&self) -> Result<Api> {
        let target = match &self.globals.server {
            Some(url) => Target::named(url, &self.data_dir)?,
            None => Target::local(&running::find(&self.data_dir, Role::Server)?.url)?,
        };
        let ca_file = self.globals.ca_file.as_deref();
        Api::new(target, self.key_file().as_deref(), &self.data_dir, ca_file)
    }

    fn key_file(&self) -> Option<PathBuf> {
        self.globals.api_key_file.clone()
    }

    /// How a command line begins that finds the server of this data directory.
    #[must_use]
    pub(crate) fn command(&self) -> String {
        match &self.globals.data_dir {
            Some(_) => format!("parallax --data-dir {}", self.data_dir.display()),
            None => "parallax".to_owned(),
        }
    }

    /// The folder of the host that `serve` starts.
    #[must_use]
    pub(crate) fn host_dir(&self) -> PathBuf {
        host_dir(&self.data_dir)
    }
}

/// The folder of the local host of the server in `data_dir`.
#[must_use]
pub(crate) fn host_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("host")
}
