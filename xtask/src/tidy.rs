//! `cargo xtask tidy`: the repository's own rules, checked on the text of the repository.
//!
//! Nothing is compiled: manifests are parsed as TOML and sources as Rust syntax, so that a run takes
//! about a second and works on a tree that does not build.

use std::path::Path;

use anyhow::{Result, bail};

use crate::process::Workspace;
use crate::steps::say;

mod allow;
mod arrows;
mod budgets;
mod finding;
mod lock;
mod manifest;
mod module_arrows;
mod modules;
#[cfg(test)]
mod tests;
mod text;
mod tokens;
mod tree;

use finding::Finding;
use tree::Tree;

/// Checks every rule and prints the findings; any finding is a failure.
pub fn run(workspace: &Workspace) -> Result<()> {
    let tree = Tree::read(&workspace.root)?;
    let findings = check(&tree)?;
    for finding in &findings {
        say(&finding.to_string());
    }
    if findings.is_empty() {
        say(&format!("tidy: {} files follow the rules", tree.len()));
        return Ok(());
    }
    bail!("tidy: {} findings", findings.len())
}

/// All findings of the tree below `root`, in the order of files and lines.
#[cfg(test)]
fn check_root(root: &Path) -> Result<Vec<Finding>> {
    check(&Tree::read(root)?)
}

fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let packages = manifest::read_all(tree)?;
    let mut findings = Vec::new();
    for package in &packages {
        arrows::check(package, &mut findings);
        lock::check(tree, package, &mut findings)?;
    }
    modules::check(tree, &packages, &mut findings)?;
    tokens::check(tree, &packages, &mut findings)?;
    module_arrows::check(tree, &mut findings);
    text::check(tree, &mut findings);
    budgets::check(tree, &packages, &mut findings)?;
    findings.sort();
    Ok(findings)
}

/// Whether a machine wrote the file; budgets and style do not apply to it.
fn is_generated(path: &Path) -> bool {
    path.iter().any(|part| {
        ["generated", "_generated", "gen"]
            .iter()
            .any(|name| part == *name)
    })
}
