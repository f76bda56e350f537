//! Rules on plain text: unfinished work, and paths that exist on one machine only.

use std::path::Path;

use super::finding::{Finding, Rule};
use super::is_generated;
use super::tree::{Tree, has_extension};

/// Split, so that this file does not contain what it looks for.
const MARKERS: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
];
const MACHINE_ROOTS: [&str; 3] = ["/work", "/tmp", "/root"];

/// Checks every text file.
pub fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for (path, text) in tree.iter() {
        if is_generated(path) || is_lock(path) {
            continue;
        }
        let is_document = ["md", "toml", "json", "yaml", "yml"]
            .iter()
            .any(|extension| has_extension(path, extension));
        for (index, line) in text.lines().enumerate() {
            if let Some(marker) = MARKERS.iter().find(|marker| has_word(line, marker)) {
                let message = format!("{marker}: finish it, or open an issue and say why here");
                let finding = Finding::new(path, index + 1, Rule::UnfinishedMarker, message);
                findings.push(finding);
            }
            if !is_document {
                continue;
            }
            if let Some(root) = MACHINE_ROOTS.iter().find(|root| has_path(line, root)) {
                let message = format!("{root} exists on one machine only; use a relative path");
                findings.push(Finding::new(path, index + 1, Rule::MachinePath, message));
            }
        }
    }
}

fn is_lock(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name == "Cargo.lock" || name == "package-lock.json")
}

/// Whether `word` occurs with nothing of an identifier on either side.
fn has_word(line: &str, word: &str) -> bool {
    occurrences(line, word).any(|(before, after)| !is_word(before) && !is_word(after))
}

/// Whether an absolute path that starts with the folder `root` occurs.
fn has_path(line: &str, root: &str) -> bool {
    occurrences(line, root).any(|(before, after)| {
        let inside_longer = is_word(before) || before.is_some_and(|c| "./~-}$".contains(c));
        !inside_longer && !is_word(after) && after != Some('-')
    })
}

/// The characters before and after each occurrence.
fn occurrences<'a>(
    line: &'a str,
    needle: &'a str,
) -> impl Iterator<Item = (Option<char>, Option<char>)> + 'a {
    line.match_indices(needle).map(|(start, found)| {
        let before = line[..start].chars().next_back();
        (before, line[start + found.len()..].chars().next())
    })
}

fn is_word(c: Option<char>) -> bool {
    c.is_some_and(|c| c.is_alphanumeric() || c == '_')
}
