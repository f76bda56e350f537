//! Skipping a test so that the closing line of `cargo xtask test` counts and names it.
//!
//! libtest knows `#[ignore]` at compile time only; what a machine lacks shows at run time. A test
//! that cannot run says so with [`skip!`](crate::skip!) and returns; xtask moves it from passed to
//! skipped.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

/// Names the file to which skips are appended, one `name<TAB>reason` a line.
pub const LOG_VARIABLE: &str = "PARALLAX_SKIP_LOG";

/// Ends the calling test as skipped: `skip!("no PostgreSQL programs: install postgresql")`.
///
/// Takes the arguments of `format!`. Works in tests that return `()` or `Result<(), E>`, also async
/// ones; call it in the test function itself, since the function's name is recorded.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)+) => {{
        fn here() {}
        $crate::skip::record(::std::any::type_name_of_val(&here), &::std::format!($($reason)+));
        return $crate::skip::Skipped::skipped();
    }};
}

/// What a skipped test returns.
pub trait Skipped {
    /// The value that libtest takes for success.
    fn skipped() -> Self;
}

impl Skipped for () {
    fn skipped() -> Self {}
}

impl<E> Skipped for Result<(), E> {
    fn skipped() -> Self {
        Ok(())
    }
}

/// Records one skip. `marker` is the type name of a function inside the test; [`skip!`](crate::skip!)
/// passes it.
///
/// # Panics
/// When the log cannot be written: a skip that nobody counts would pass for a success.
#[expect(
    clippy::print_stderr,
    reason = "a person who runs one test alone sees the reason"
)]
pub fn record(marker: &str, reason: &str) {
    let name = test_name(marker);
    eprintln!("SKIPPED {name}: {reason}");
    if let Some(path) = log_path() {
        append(&path, &name, reason);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test kit has no configuration but its caller's environment"
)]
fn log_path() -> Option<PathBuf> {
    std::env::var_os(LOG_VARIABLE).map(PathBuf::from)
}

/// One short write in append mode, so that tests in parallel processes do not mix their lines.
fn append(path: &PathBuf, name: &str, reason: &str) {
    let reason = reason.replace(['\n', '\t'], " ");
    let line = format!("{name}\t{reason}\n");
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .expect("the skip log of cargo xtask test can be written");
}

/// `it::conformance::echo::{{closure}}::here` → `it::conformance::echo`.
fn test_name(marker: &str) -> String {
    let parts = marker.split("::").filter(|part| *part != "{{closure}}");
    let mut parts: Vec<_> = parts.collect();
    parts.pop();
    parts.join("::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_is_logged_under_the_name_of_its_test() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let log = dir.path().join("skips");
        let marker = "it::postgres::a_second_server_is_refused::{{closure}}::here";
        append(&log, &test_name(marker), "no\tprograms\nfound");
        append(&log, "it::other", "why");
        assert_eq!(
            std::fs::read_to_string(&log).expect("the log exists"),
            "it::postgres::a_second_server_is_refused\tno programs found\nit::other\twhy\n"
        );
    }

    /// Compiled, not called: a call would be counted as a skip of this run.
    #[test]
    fn the_macro_fits_tests_with_and_without_a_result() {
        fn plain() {
            crate::skip!("no {}", "database");
        }
        fn fallible() -> Result<(), std::io::Error> {
            crate::skip!("no database");
        }
        let _: fn() = plain;
        let _: fn() -> Result<(), std::io::Error> = fallible;
        assert!(<Result<(), ()> as Skipped>::skipped().is_ok());
    }
}
