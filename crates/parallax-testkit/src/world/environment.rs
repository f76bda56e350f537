//! What worlds read from their caller's environment, in one place.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A `parallax` program to use instead of building one.
const BINARY: &str = "PARALLAX_BIN";
/// Set by `cargo xtask test --full`: more seeds, full sizes.
const FULL: &str = "PARALLAX_TEST_FULL";
/// Where cargo builds, when not in `target/`.
const TARGET: &str = "CARGO_TARGET_DIR";

/// Seeds of each fault in an ordinary run.
const FEW: u64 = 5;
/// Seeds of each fault in a full run.
const MANY: u64 = 20;

/// The `parallax` program: the one that the environment names, or one that is built now.
///
/// # Panics
/// When it cannot be built: no test of the product can run.
pub fn parallax() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| variable(BINARY).map_or_else(build, PathBuf::from))
}

/// Whether faults are tested at full size and with all seeds.
#[must_use]
pub fn is_full() -> bool {
    variable(FULL).is_some()
}

/// The seeds of a fault that is repeated at random points.
pub fn seeds() -> std::ops::Range<u64> {
    0..if is_full() { MANY } else { FEW }
}

/// Where programs are looked for.
pub(super) fn path() -> OsString {
    variable("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into())
}

fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the crate lies in crates/ of the repository");
    let status = Command::new(variable("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--package", "parallax-cli", "--bins"])
        .current_dir(root)
        .status()
        .expect("cargo can be started");
    assert!(status.success(), "the product does not build");
    let target = variable(TARGET).map_or_else(|| PathBuf::from("target"), PathBuf::from);
    root.join(target).join("debug/parallax")
}

/// A variable that is set and not empty.
#[expect(
    clippy::disallowed_methods,
    reason = "the test kit has no configuration but its caller's environment"
)]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
