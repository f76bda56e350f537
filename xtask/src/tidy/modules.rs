//! Files that rustc never sees: no `mod` declaration reaches them, so no lint and no test does.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;
use syn::{Expr, Item, Lit, Meta};

use super::finding::{Finding, Rule};
use super::manifest::Package;
use super::tree::Tree;

/// Walks each package's module tree; reports orphans, `mod.rs` files and sources that do not parse.
pub fn check(tree: &Tree, packages: &[Package], findings: &mut Vec<Finding>) -> Result<()> {
    for package in packages {
        let mut reached = BTreeSet::new();
        for root in roots(tree, package) {
            let dir = folder_of(&root);
            follow(tree, &root, &dir, &mut reached, findings);
        }
        for (path, _) in tree.rust_below(&package.dir) {
            check_file(package, path, &reached, findings);
        }
    }
    Ok(())
}

fn check_file(
    package: &Package,
    path: &Path,
    reached: &BTreeSet<PathBuf>,
    findings: &mut Vec<Finding>,
) {
    if !reached.contains(path) {
        let message = format!(
            "no `mod` declaration of {} reaches this file; declare it or delete it",
            package.name
        );
        findings.push(Finding::new(path, 1, Rule::OrphanFile, message));
    }
    if path.file_name().is_some_and(|name| name == "mod.rs") {
        let message = "rename it to the folder's name plus `.rs`, beside the folder";
        findings.push(Finding::new(path, 1, Rule::ModRs, message));
    }
}

/// The files that cargo starts from, by convention or because the manifest names them.
fn roots(tree: &Tree, package: &Package) -> Vec<PathBuf> {
    let mut roots = package.targets.clone();
    for conventional in ["src/lib.rs", "src/main.rs", "build.rs"] {
        roots.push(package.dir.join(conventional));
    }
    let folders = ["src/bin", "tests", "benches", "examples"].map(|name| package.dir.join(name));
    for (path, _) in tree.rust_below(&package.dir) {
        let Some(parent) = path.parent() else {
            continue;
        };
        let is_file_target = folders.iter().any(|folder| parent == folder);
        let is_folder_target = path.file_name().is_some_and(|name| name == "main.rs")
            && parent
                .parent()
                .is_some_and(|p| folders.iter().any(|folder| p == folder));
        if is_file_target || is_folder_target {
            roots.push(path.to_owned());
        }
    }
    roots.retain(|root| tree.get(root).is_some());
    roots
}

/// Marks `path` and everything that its `mod` items declare. `dir` is where its children lie.
fn follow(
    tree: &Tree,
    path: &Path,
    dir: &Path,
    reached: &mut BTreeSet<PathBuf>,
    findings: &mut Vec<Finding>,
) {
    let Some(text) = tree.get(path) else { return };
    if !reached.insert(path.to_owned()) {
        return;
    }
    let file = match syn::parse_file(text) {
        Ok(file) => file,
        Err(error) => {
            let line = error.span().start().line;
            findings.push(Finding::new(path, line, Rule::Syntax, error.to_string()));
            return;
        }
    };
    let own_dir = folder_of(path);
    for child in children(&file.items, dir, &own_dir) {
        let Some(found) = child.candidates.iter().find(|p| tree.get(p).is_some()) else {
            continue;
        };
        follow(tree, found, &child.dir, reached, findings);
    }
}

/// One declared module: where its file may be, and where its own children lie.
struct Child {
    candidates: Vec<PathBuf>,
    dir: PathBuf,
}

/// `dir` is where children without `#[path]` lie, `base` what `#[path]` is relative to.
fn children(items: &[Item], dir: &Path, base: &Path) -> Vec<Child> {
    let mut found = Vec::new();
    for item in items {
        match item {
            Item::Mod(module) => {
                let name = module.ident.to_string();
                let own = dir.join(name.trim_start_matches("r#"));
                if let Some((_, inner)) = &module.content {
                    found.extend(children(inner, &own, &own));
                    continue;
                }
                found.push(declared(&module.attrs, &own, base));
            }
            Item::Macro(call) if call.mac.path.is_ident("include") => {
                if let Ok(Lit::Str(name)) = call.mac.parse_body::<Lit>() {
                    let path = normal(&base.join(name.value()));
                    found.push(Child {
                        dir: folder_of(&path),
                        candidates: vec![path],
                    });
                }
            }
            _ => {}
        }
    }
    found
}

fn declared(attributes: &[syn::Attribute], own: &Path, base: &Path) -> Child {
    if let Some(path) = path_attribute(attributes) {
        let path = normal(&base.join(path));
        return Child {
            dir: folder_of(&path),
            candidates: vec![path],
        };
    }
    Child {
        candidates: vec![own.with_extension("rs"), own.join("mod.rs")],
        dir: own.to_owned(),
    }
}

fn path_attribute(attributes: &[syn::Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| {
        let Meta::NameValue(pair) = &attribute.meta else {
            return None;
        };
        let Expr::Lit(value) = &pair.value else {
            return None;
        };
        match &value.lit {
            Lit::Str(text) if pair.path.is_ident("path") => Some(text.value()),
            _ => None,
        }
    })
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

/// Resolves `..` by text; the tree knows its files by their plain relative paths.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}
