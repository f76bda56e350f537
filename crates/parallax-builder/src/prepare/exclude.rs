//! What of a folder is not packed.

use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::error::PackError;

/// The file that replaces [`DEFAULT_EXCLUDES`], in the notation of `.gitignore`.
pub const IGNORE_FILE: &str = ".parallaxignore";

/// Left out where the folder has no `.parallaxignore`: what is fetched or made anew by a build,
/// what belongs to tools, and `.env` files, which hold secrets. Build output (`dist`, `build`)
/// stays: some agents are deployed as built.
pub const DEFAULT_EXCLUDES: [&str; 19] = [
    ".DS_Store",
    ".env",
    ".env.*",
    "!.env.example",
    "!.env.sample",
    "!.env.template",
    ".hg/",
    ".idea/",
    ".mypy_cache/",
    ".parallax/",
    ".pytest_cache/",
    ".ruff_cache/",
    ".svn/",
    ".venv/",
    ".vscode/",
    "__pycache__/",
    "*.pyc",
    "node_modules/",
    "/target/",
];

/// The history is never packed, whatever the ignore file says.
const ALWAYS: [&str; 1] = [".git"];

/// Decides what is left out of an archive.
#[derive(Debug)]
pub struct Excludes {
    rules: Gitignore,
}

impl Excludes {
    /// Those of a folder: its `.parallaxignore`, or the defaults.
    ///
    /// # Errors
    /// When the file cannot be read or has a line that is no pattern.
    pub fn of(folder: &Path) -> Result<Self, PackError> {
        let path = folder.join(IGNORE_FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::build(folder, text.lines()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Self::build(folder, DEFAULT_EXCLUDES.into_iter())
            }
            Err(source) => Err(PackError::Read { path, source }),
        }
    }

    /// None but the history: for trees that were unpacked.
    ///
    /// # Errors
    /// Never in practice; the rules are constant.
    pub fn none(folder: &Path) -> Result<Self, PackError> {
        Self::build(folder, std::iter::empty())
    }

    fn build<'l>(folder: &Path, lines: impl Iterator<Item = &'l str>) -> Result<Self, PackError> {
        let mut builder = GitignoreBuilder::new(folder);
        for line in lines.chain(ALWAYS) {
            builder
                .add_line(None, line)
                .map_err(PackError::BadPattern)?;
        }
        let rules = builder.build().map_err(PackError::BadPattern)?;
        Ok(Self { rules })
    }

    /// Whether the entry, relative to the folder, is left out. Folders that are left out need not
    /// be looked into.
    #[must_use]
    pub fn excludes(&self, path: &Path, is_folder: bool) -> bool {
        self.rules.matched(path, is_folder).is_ignore()
    }
}
