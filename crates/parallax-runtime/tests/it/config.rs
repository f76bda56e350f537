//! What the tests take from their environment.

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
