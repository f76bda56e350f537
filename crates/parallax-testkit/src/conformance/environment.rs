//! What the suite reads from its caller's environment, in one place.

use std::ffi::OsString;

/// Where fixtures are built; `target/conformance` when unset.
pub(super) const CACHE: &str = "PARALLAX_TEST_CACHE";

/// Where programs are looked for.
pub(super) const PATH: &str = "PATH";

/// A variable that is set and not empty.
#[expect(
    clippy::disallowed_methods,
    reason = "the test kit has no configuration but its caller's environment"
)]
pub(super) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
