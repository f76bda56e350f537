//! The workspace's packages as their manifests state them, with line numbers.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::tree::Tree;

/// One member of the workspace.
#[derive(Debug)]
pub struct Package {
    /// The package's name.
    pub name: String,
    /// Its folder, relative to the repository's root.
    pub dir: PathBuf,
    /// Every dependency of every section.
    pub dependencies: Vec<Dependency>,
    /// Paths of targets that the manifest names, relative to the root.
    pub targets: Vec<PathBuf>,
}

impl Package {
    /// The manifest's path, relative to the root.
    pub fn manifest(&self) -> PathBuf {
        self.dir.join("Cargo.toml")
    }
}

/// One line of a dependency table.
#[derive(Debug)]
pub struct Dependency {
    /// The name that the manifest uses.
    pub name: String,
    /// Where, counted from 1.
    pub line: usize,
    /// What the dependency is for.
    pub kind: Kind,
    /// Whether it says `workspace = true`.
    pub inherited: bool,
}

/// What a dependency is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Part of the crate.
    Normal,
    /// For tests only.
    Dev,
    /// For the build script only.
    Build,
}

/// The members that the root manifest lists, in path order.
pub fn read_all(tree: &Tree) -> Result<Vec<Package>> {
    let root = tree
        .get(Path::new("Cargo.toml"))
        .ok_or_else(|| anyhow!("Cargo.toml: the root has no manifest"))?;
    let patterns = member_patterns(root).context("Cargo.toml: reading the workspace's members")?;
    let mut packages = Vec::new();
    for (path, text) in tree.iter() {
        let Some(dir) = path.parent() else { continue };
        if path.file_name().is_some_and(|name| name == "Cargo.toml")
            && patterns.iter().any(|pattern| is_member(dir, pattern))
        {
            let package = read_one(dir, text);
            packages.push(package.with_context(|| format!("{}: reading", path.display()))?);
        }
    }
    Ok(packages)
}

fn member_patterns(root: &str) -> Result<Vec<String>> {
    let document = DeTable::parse(root)?;
    let members = document
        .get_ref()
        .get("workspace")
        .and_then(|workspace| workspace.get_ref().as_table()?.get("members"))
        .and_then(|members| members.get_ref().as_array())
        .ok_or_else(|| anyhow!("`workspace.members` is missing"))?;
    Ok(members
        .iter()
        .filter_map(|member| member.get_ref().as_str().map(str::to_owned))
        .collect())
}

/// `crates/*` or a plain folder: the two forms that the workspace uses.
fn is_member(dir: &Path, pattern: &str) -> bool {
    match pattern.strip_suffix("/*") {
        Some(parent) => dir.parent() == Some(Path::new(parent)),
        None => dir == Path::new(pattern),
    }
}

fn read_one(dir: &Path, text: &str) -> Result<Package> {
    let document = DeTable::parse(text)?;
    let document = document.get_ref();
    let name = document
        .get("package")
        .and_then(|package| package.get_ref().as_table()?.get("name"))
        .and_then(|name| name.get_ref().as_str())
        .ok_or_else(|| anyhow!("`package.name` is missing"))?;
    let mut dependencies = Vec::new();
    read_sections(document, text, &mut dependencies);
    if let Some(targets) = table(document, "target") {
        for target in targets.values() {
            if let Some(target) = target.get_ref().as_table() {
                read_sections(target, text, &mut dependencies);
            }
        }
    }
    Ok(Package {
        name: name.to_owned(),
        dir: dir.to_owned(),
        dependencies,
        targets: named_targets(document, dir),
    })
}

fn read_sections(from: &DeTable<'_>, text: &str, into: &mut Vec<Dependency>) {
    let sections = [
        ("dependencies", Kind::Normal),
        ("dev-dependencies", Kind::Dev),
        ("build-dependencies", Kind::Build),
    ];
    for (section, kind) in sections {
        let Some(entries) = table(from, section) else {
            continue;
        };
        for (name, value) in entries {
            into.push(Dependency {
                name: name.get_ref().to_string(),
                line: line_of(text, name.span().start),
                kind,
                inherited: is_inherited(value),
            });
        }
    }
}

fn named_targets(document: &DeTable<'_>, dir: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let mut push = |target: &Spanned<DeValue<'_>>| {
        let path = target.get_ref().as_table().and_then(|t| t.get("path"));
        if let Some(path) = path.and_then(|path| path.get_ref().as_str()) {
            paths.push(dir.join(path));
        }
    };
    if let Some(library) = document.get("lib") {
        push(library);
    }
    for kind in ["bin", "test", "bench", "example"] {
        let targets = document.get(kind).and_then(|v| v.get_ref().as_array());
        targets.into_iter().flatten().for_each(&mut push);
    }
    paths
}

fn table<'a, 'i>(from: &'a DeTable<'i>, key: &str) -> Option<&'a DeTable<'i>> {
    from.get(key)?.get_ref().as_table()
}

fn is_inherited(value: &Spanned<DeValue<'_>>) -> bool {
    value
        .get_ref()
        .as_table()
        .and_then(|entry| entry.get("workspace"))
        .and_then(|flag| flag.get_ref().as_bool())
        .unwrap_or(false)
}

fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}
