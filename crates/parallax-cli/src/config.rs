//! What the environment says: read here, once, and nowhere else in this binary.
//!
//! Variables that stand for a flag (`PARALLAX_URL`, …) are read by clap, beside the flag in
//! [`crate::args`].

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The environment of one run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// The person's home; containers may leave it empty.
    pub(crate) home: Option<PathBuf>,
    /// Where programs keep data, by the desktop standard.
    pub(crate) xdg_data_home: Option<PathBuf>,
    /// Where programs are looked for.
    pub(crate) path: OsString,
    /// No colours, whatever the terminal can do (<https://no-color.org>).
    pub(crate) no_color: bool,
}

/// Variables that tell package managers how to reach their registries from here. Build steps get
/// these and no others of the server's environment; `--build-env NAME` adds to them.
pub(crate) const BUILD_VARIABLES: [&str; 22] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "NPM_CONFIG_REGISTRY",
    "npm_config_registry",
    "PIP_CERT",
    "PIP_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_NATIVE_TLS",
    "UV_SYSTEM_CERTS",
    "COREPACK_NPM_REGISTRY",
    "YARN_NPM_REGISTRY_SERVER",
];

impl Environment {
    /// Reads the process environment.
    pub(crate) fn read() -> Self {
        Self {
            home: variable("HOME").map(PathBuf::from),
            xdg_data_home: variable("XDG_DATA_HOME").map(PathBuf::from),
            path: variable("PATH").unwrap_or_default(),
            no_color: variable("NO_COLOR").is_some(),
        }
    }

    /// Where everything is kept unless `--data-dir` says otherwise. Without a home, the folder in
    /// which the command was started.
    #[must_use]
    pub(crate) fn default_data_dir(&self) -> PathBuf {
        let absolute = |path: &&PathBuf| path.is_absolute();
        if let Some(data) = self.xdg_data_home.as_ref().filter(absolute) {
            return data.join("parallax");
        }
        match self.home.as_ref().filter(absolute) {
            Some(home) => home.join(".local/share/parallax"),
            None => Path::new(".parallax").to_owned(),
        }
    }
}

/// [`BUILD_VARIABLES`] and `more`, as far as they are set.
pub(crate) fn build_variables(more: &[String]) -> BTreeMap<String, String> {
    let names = BUILD_VARIABLES
        .into_iter()
        .chain(more.iter().map(String::as_str));
    let set = names.filter_map(|name| {
        let value = variable(name)?.into_string().ok()?; // No package manager reads such a value.
        Some((name.to_owned(), value))
    });
    set.collect()
}

/// A variable that is set but empty counts as unset.
#[expect(clippy::disallowed_methods, reason = "this is the config module")]
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_dir(home: Option<&str>, xdg: Option<&str>) -> PathBuf {
        let environment = Environment {
            home: home.map(PathBuf::from),
            xdg_data_home: xdg.map(PathBuf::from),
            ..Environment::default()
        };
        environment.default_data_dir()
    }

    #[test]
    fn data_lies_where_the_desktop_standard_puts_it() {
        assert_eq!(data_dir(Some("/h"), Some("/x")), Path::new("/x/parallax"));
        assert_eq!(
            data_dir(Some("/h"), None),
            Path::new("/h/.local/share/parallax")
        );
        assert_eq!(data_dir(None, None), Path::new(".parallax"));
        assert_eq!(data_dir(None, Some("relative")), Path::new(".parallax"));
    }
}
