//! `cargo xtask vendor`: copies each SDK, as its registry would deliver it, into the examples.
//!
//! An upload never reaches outside its own root, so an example carries its SDK in
//! `vendor/parallax-sdk/`, which git ignores.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cache::{Cache, content_hash};
use crate::process::Workspace;
use crate::steps::say;
use crate::test::sdks;

/// Where an example finds its SDK, relative to the example.
pub const PLACE: &str = "vendor/parallax-sdk";

/// One folder of `examples/`.
#[derive(Debug)]
pub struct Example {
    /// The folder's name.
    pub name: String,
    /// The folder.
    pub dir: PathBuf,
    /// What it is written in.
    pub language: Language,
}

/// The languages that have an SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// `package.json`.
    TypeScript,
    /// `pyproject.toml` or `requirements.txt`.
    Python,
}

/// Prints what was copied.
pub fn run(workspace: &Workspace) -> Result<()> {
    let cache = Cache::open(&workspace.config)?;
    vendor(workspace, &cache)
}

/// Brings every example's SDK up to date; what is current is left alone.
pub fn vendor(workspace: &Workspace, cache: &Cache) -> Result<()> {
    for example in examples(workspace)? {
        let staged = stage(workspace, cache, example.language)?;
        let place = example.dir.join(PLACE);
        let paths = [staged.clone(), place.clone()];
        let [wanted, present] = paths.map(|path| package_hash(&path));
        if wanted? == present? {
            say(&format!("   examples/{}: the SDK is current", example.name));
            continue;
        }
        replace(&staged, &place)?;
        say(&format!(
            "   examples/{}: SDK copied to {PLACE}",
            example.name
        ));
    }
    Ok(())
}

/// Every deployable example, in the order of names.
pub fn examples(workspace: &Workspace) -> Result<Vec<Example>> {
    let root = workspace.root.join("examples");
    let mut found = Vec::new();
    for entry in fs::read_dir(&root).with_context(|| format!("reading {}", root.display()))? {
        let dir = entry?.path();
        if !dir.join("parallax.toml").is_file() {
            continue;
        }
        let Some(language) = language_of(&dir) else {
            continue;
        };
        let name = dir.file_name().unwrap_or(dir.as_os_str());
        found.push(Example {
            name: name.to_string_lossy().into_owned(),
            language,
            dir,
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn language_of(dir: &Path) -> Option<Language> {
    if dir.join("package.json").is_file() {
        return Some(Language::TypeScript);
    }
    let is_python = ["pyproject.toml", "requirements.txt"]
        .iter()
        .any(|name| dir.join(name).is_file());
    is_python.then_some(Language::Python)
}

/// What the SDK's package consists of, in a folder of its own below `target/`.
fn stage(workspace: &Workspace, cache: &Cache, language: Language) -> Result<PathBuf> {
    let (source, name, parts): (PathBuf, &str, &[&str]) = match language {
        Language::TypeScript => {
            if let Some(reason) = sdks::missing(workspace, &["node", "npm"]) {
                bail!("the TypeScript SDK cannot be built: {reason}; install Node.js 20 or later");
            }
            let source = sdks::build_typescript(workspace, cache)?;
            (
                source,
                "typescript",
                &["package.json", "README.md", "LICENSE", "dist"],
            )
        }
        Language::Python => {
            let source = workspace.root.join("sdks/python");
            (
                source,
                "python",
                &["pyproject.toml", "README.md", "LICENSE", "src"],
            )
        }
    };
    let staged = workspace.root.join("target/xtask/vendor").join(name);
    remove_tree(&staged)?;
    fs::create_dir_all(&staged).with_context(|| format!("creating {}", staged.display()))?;
    for part in parts {
        let from = source.join(part);
        if from.is_dir() {
            copy_tree(&from, &staged.join(part), &["__pycache__"])?;
        } else {
            fs::copy(&from, staged.join(part))
                .with_context(|| format!("copying {}", from.display()))?;
        }
    }
    Ok(staged)
}

/// Hashes the parts one by one: as a whole, `dist` would count as made by a tool.
pub fn package_hash(dir: &Path) -> Result<String> {
    let parts = [
        "package.json",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "dist",
        "src",
    ];
    content_hash(&parts.map(|part| dir.join(part)))
}

/// Puts the copy in place by a rename, so that an upload never sees half of it.
fn replace(staged: &Path, place: &Path) -> Result<()> {
    let parent = place.parent().expect("the place lies in a folder");
    let fresh = parent.join(".parallax-sdk.new");
    remove_tree(&fresh)?;
    copy_tree(staged, &fresh, &[])?;
    remove_tree(place)?;
    fs::rename(&fresh, place).with_context(|| format!("renaming to {}", place.display()))
}

/// Removes a folder that may not be there.
pub fn remove_tree(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Copies files and folders below `from`, without entries named in `without`.
pub fn copy_tree(from: &Path, to: &Path, without: &[&str]) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if without.iter().any(|skipped| name == *skipped) {
            continue;
        }
        let (source, target) = (entry.path(), to.join(&name));
        if entry.file_type()?.is_dir() {
            copy_tree(&source, &target, without)?;
        } else {
            fs::copy(&source, &target).with_context(|| format!("copying {}", source.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_package_has_nothing_of_the_old_one() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (staged, place) = (dir.path().join("staged"), dir.path().join("app/vendor/sdk"));
        fs::create_dir_all(staged.join("dist")).expect("a folder");
        fs::write(staged.join("dist/new.js"), "1").expect("a file");
        fs::create_dir_all(place.join("dist")).expect("a folder");
        fs::write(place.join("dist/old.js"), "1").expect("a file");
        assert_ne!(package_hash(&staged).ok(), package_hash(&place).ok());
        replace(&staged, &place).expect("the copy succeeds");
        assert_eq!(package_hash(&staged).ok(), package_hash(&place).ok());
        assert!(!place.join("dist/old.js").exists());
    }
}
