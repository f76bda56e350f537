//! The text files of the repository, read once; what git ignores is not part of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Suffixes that are read: sources, manifests, contracts and documents.
const TEXT: [&str; 14] = [
    "rs", "ts", "mts", "mjs", "js", "py", "toml", "json", "md", "proto", "sh", "sql", "yaml", "yml",
];

/// Relative path to text, in path order.
#[derive(Debug, Default)]
pub struct Tree {
    files: BTreeMap<PathBuf, String>,
}

impl Tree {
    /// Reads every text file below `root` that git would track.
    pub fn read(root: &Path) -> Result<Self> {
        let walk = ignore::WalkBuilder::new(root)
            .hidden(false)
            .parents(false)
            .git_global(false)
            .require_git(false)
            .filter_entry(|entry| entry.file_name() != ".git")
            .build();
        let mut files = BTreeMap::new();
        for entry in walk {
            let entry = entry.context("walking the repository")?;
            let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
            let path = entry
                .path()
                .strip_prefix(root)
                .expect("the walk stays below its root");
            if !is_file || !is_text(path) || is_test_data(path) {
                continue;
            }
            let bytes = match std::fs::read(entry.path()) {
                Ok(bytes) => bytes,
                // An editor's file that went away between listing and reading.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(error).context(format!("reading {}", entry.path().display()));
                }
            };
            files.insert(
                path.to_owned(),
                String::from_utf8_lossy(&bytes).into_owned(),
            );
        }
        Ok(Self { files })
    }

    /// The text of one file.
    pub fn get(&self, path: &Path) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Every file with its text.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.files
            .iter()
            .map(|(path, text)| (path.as_path(), text.as_str()))
    }

    /// The Rust sources below `dir`.
    pub fn rust_below(&self, dir: &Path) -> impl Iterator<Item = (&Path, &str)> {
        self.iter()
            .filter(move |(path, _)| path.starts_with(dir) && has_extension(path, "rs"))
    }

    /// How many files were read.
    pub fn len(&self) -> usize {
        self.files.len()
    }
}

/// Whether the file's suffix is `extension`.
pub fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

fn is_text(path: &Path) -> bool {
    TEXT.iter().any(|extension| has_extension(path, extension))
        || path.file_name().is_some_and(|name| name == "Cargo.lock")
        || path.ends_with(".ci/run")
}

/// What tests read as data, such as whole foreign projects, follows no rule of ours.
fn is_test_data(path: &Path) -> bool {
    path.iter()
        .any(|part| part == "fixtures" || part == "corpus")
}
