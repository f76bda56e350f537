//! What the tests take from their environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Where the caller's programs are: version managers put interpreters there that the system's
/// folders lack.
#[expect(
    clippy::disallowed_methods,
    reason = "this is where the tests read their environment"
)]
pub(crate) fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"))
}

/// What package managers need to reach their registries from here.
#[expect(
    clippy::disallowed_methods,
    reason = "tests reach registries the way their caller does"
)]
pub(crate) fn build_env() -> BTreeMap<String, String> {
    let names = [
        "HTTPS_PROXY",
        "https_proxy",
        "NO_PROXY",
        "no_proxy",
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "PIP_CERT",
        "PIP_INDEX_URL",
        "NODE_EXTRA_CA_CERTS",
        "npm_config_registry",
    ];
    let set = names.into_iter().filter_map(|name| {
        let value = std::env::var(name).ok()?;
        Some((name.to_owned(), value))
    });
    set.collect()
}

/// Where `cargo xtask test` has put the package managers that no machine comes with.
#[expect(
    clippy::disallowed_methods,
    reason = "this is where the tests read their environment"
)]
pub(crate) fn managers() -> Option<PathBuf> {
    std::env::var_os("PARALLAX_TEST_MANAGERS").map(PathBuf::from)
}
