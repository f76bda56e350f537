//! Which module of the server may name which: transports and jobs call `app`, and nothing calls back.

use std::path::Path;

use super::finding::{Finding, Rule};
use super::tree::Tree;

const SERVER: &str = "crates/parallax-server/src";

/// A module, and the modules of the crate that it may not name.
const MAY_NOT: [(&str, &[&str]); 2] = [
    ("app", &["grpc", "http", "jobs"]),
    ("dispatch", &["app", "grpc", "hosts", "http", "jobs"]),
];

/// Checks the paths that begin with `crate::`; tests may name what they drive.
pub fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for (path, text) in tree.rust_below(Path::new(SERVER)) {
        let Some((module, above)) = module_of(path) else {
            continue;
        };
        for (index, line) in text.lines().enumerate() {
            let Some(named) = above.iter().find(|named| names(line, named)) else {
                continue;
            };
            let message = format!(
                "`{module}` may not name `{named}`, which stands above it; move what both need down"
            );
            findings.push(Finding::new(path, index + 1, Rule::ModuleArrow, message));
        }
    }
}

fn module_of(path: &Path) -> Option<(&'static str, &'static [&'static str])> {
    let inside = path.strip_prefix(SERVER).ok()?;
    let mut parts = inside.iter().filter_map(|part| part.to_str());
    if parts
        .clone()
        .any(|part| part == "tests" || part == "tests.rs")
    {
        return None;
    }
    let first = parts.next()?.trim_end_matches(".rs");
    MAY_NOT.into_iter().find(|(module, _)| *module == first)
}

fn names(line: &str, module: &str) -> bool {
    let mut rest = line.match_indices("crate::").map(|(at, _)| &line[at + 7..]);
    let comment = line.trim_start().starts_with("//");
    !comment
        && rest.any(|rest| {
            let after = rest.strip_prefix(module);
            after.is_some_and(|after| after.starts_with([':', ';']))
        })
}
