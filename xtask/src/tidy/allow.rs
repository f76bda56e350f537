//! `xtask/tidy-allow.toml`: what was too long when the rule came, and how long it may be at most.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;
use toml::Spanned;

use super::tree::Tree;

/// The list's place, relative to the repository's root.
pub const PATH: &str = "xtask/tidy-allow.toml";

/// One entry.
#[derive(Debug)]
pub struct Allowed {
    /// The line of the entry, counted from 1.
    pub line: usize,
    /// The most lines that the file or function may have.
    pub lines: usize,
}

/// The whole list; a repository without the file has an empty one.
#[derive(Debug, Default)]
pub struct AllowList {
    /// By path.
    pub files: BTreeMap<String, Allowed>,
    /// By `path::function`.
    pub functions: BTreeMap<String, Allowed>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    files: BTreeMap<String, Spanned<i64>>,
    #[serde(default)]
    functions: BTreeMap<String, Spanned<i64>>,
}

/// Reads the list from the tree.
pub fn read(tree: &Tree) -> Result<AllowList> {
    let Some(text) = tree.get(Path::new(PATH)) else {
        return Ok(AllowList::default());
    };
    let document: Document = toml::from_str(text).with_context(|| format!("{PATH}: reading"))?;
    Ok(AllowList {
        files: entries(document.files, text)?,
        functions: entries(document.functions, text)?,
    })
}

fn entries(from: BTreeMap<String, Spanned<i64>>, text: &str) -> Result<BTreeMap<String, Allowed>> {
    let mut found = BTreeMap::new();
    for (key, value) in from {
        let line = text[..value.span().start].matches('\n').count() + 1;
        let lines = usize::try_from(value.into_inner())
            .map_err(|_| anyhow!("{PATH}:{line}: `{key}` needs a positive number of lines"))?;
        found.insert(key, Allowed { line, lines });
    }
    Ok(found)
}
