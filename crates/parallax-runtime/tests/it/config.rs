//! What the tests take from their environment.

use std::collections::BTreeMap;
use std::ffi::OsString;

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
    ];
    let set = names.into_iter().filter_map(|name| {
        let value = std::env::var(name).ok()?;
        Some((name.to_owned(), value))
    });
    set.collect()
}
