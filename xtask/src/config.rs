//! What the tools read from the environment: the only place in xtask that does.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// The environment of one run.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Continuous integration: line output only, no incremental compilation.
    pub ci: bool,
    /// The cargo that started xtask.
    pub cargo: Option<OsString>,
    /// Where cargo builds, when not in `target/`.
    pub target_dir: Option<PathBuf>,
    /// Where caches go when the caller names a folder.
    pub cache_dir: Option<PathBuf>,
    /// The desktop standard's cache root.
    pub xdg_cache_home: Option<PathBuf>,
    /// The person's home; containers may leave it empty.
    pub home: Option<PathBuf>,
    /// Where programs are looked for.
    pub path: OsString,
    /// Options that every Node.js process gets.
    pub node_options: OsString,
    /// Never call the system's package manager.
    pub no_install: bool,
}

impl Config {
    /// Reads the process environment.
    pub fn from_env() -> Self {
        Self {
            ci: read("CI").is_some_and(|value| value == "true" || value == "1"),
            cargo: read("CARGO"),
            target_dir: read("CARGO_TARGET_DIR").map(PathBuf::from),
            cache_dir: read("PARALLAX_CACHE_DIR").map(PathBuf::from),
            xdg_cache_home: read("XDG_CACHE_HOME").map(PathBuf::from),
            home: read("HOME").map(PathBuf::from),
            path: read("PATH").unwrap_or_default(),
            node_options: read("NODE_OPTIONS").unwrap_or_default(),
            no_install: read("PARALLAX_NO_INSTALL").is_some(),
        }
    }
}

/// A variable that is set but empty counts as unset.
#[expect(clippy::disallowed_methods, reason = "this is the config module")]
fn read(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}
