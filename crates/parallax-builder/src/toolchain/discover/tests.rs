use std::fs;

use super::*;

/// A program that prints a version, as runtimes do.
fn program(path: &Path, prints: &str) {
    fs::create_dir_all(path.parent().expect("has a parent")).expect("writable");
    fs::write(path, format!("#!/bin/sh\necho '{prints}'\n")).expect("writable");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("mine");
}

fn discover(folders: &[&Path]) -> Toolchain {
    let path = std::env::join_paths(folders.iter().copied().chain([Path::new("/bin")]))
        .expect("plain folders");
    let mut found = Toolchain::discover(&path);
    let mine = |tool: &Tool| {
        folders.iter().any(|folder| {
            let root = folder.parent().expect("has a parent");
            tool.path.starts_with(root)
        })
    };
    found.tools.retain(mine);
    found
}

#[test]
fn tools_are_found_with_version_and_what_they_need_to_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path().canonicalize().expect("exists");
    program(&root.join("node/bin/node"), "v22.3.0");
    program(&root.join("pkg/npm/bin/npm-cli.js"), "10.9.0");
    std::os::unix::fs::symlink(
        root.join("pkg/npm/bin/npm-cli.js"),
        root.join("node/bin/npm"),
    )
    .expect("writable");
    let found = discover(&[&root.join("node/bin")]);
    let node = found.first(ToolKind::Node).expect("found");
    assert_eq!(node.version, "22.3.0");
    assert_eq!(node.read_paths, [root.join("node")]);
    let npm = found.first(ToolKind::Npm).expect("found");
    assert_eq!(npm.read_paths, [root.join("node"), root.join("pkg/npm")]);
    assert_eq!(
        found.read_paths(),
        [root.join("node"), root.join("pkg/npm")]
    );
    assert_eq!(found.languages(), ["typescript", "javascript"]);
}

#[test]
fn interpreters_behind_pyenv_are_found_and_its_shims_are_not_used() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path().canonicalize().expect("exists").join("pyenv");
    program(&root.join("shims/python3"), "Python 0.0.0");
    for version in ["3.10.1", "3.12.4"] {
        let bin = root.join("versions").join(version).join("bin");
        program(&bin.join("python3"), &format!("Python {version}"));
        std::os::unix::fs::symlink("python3", bin.join("python")).expect("writable");
    }
    let lib = root.join("versions/3.12.4/lib/python3.12/ensurepip");
    fs::create_dir_all(&lib).expect("writable");
    fs::write(lib.join("__init__.py"), "").expect("writable");
    fs::write(root.join("version"), "3.12.4\n").expect("writable");
    let found = discover(&[&root.join("shims")]);
    let versions: Vec<_> = found
        .of(ToolKind::Python)
        .map(|t| (t.version.as_str(), t.ensurepip))
        .collect();
    assert_eq!(versions, [("3.12.4", true), ("3.10.1", false)]);
    assert_eq!(
        found.first(ToolKind::Python).expect("found").read_paths,
        [root.join("versions/3.12.4")]
    );
    assert_eq!(found.languages(), ["python"]);
}

#[test]
fn a_virtual_environment_borrows_from_its_base() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path().canonicalize().expect("exists");
    program(&root.join("venv/bin/python"), "Python 3.11.2");
    let base = root.join("base/lib/python3.11/ensurepip");
    fs::create_dir_all(&base).expect("writable");
    fs::write(base.join("__init__.py"), "").expect("writable");
    let home = format!("home = {}\n", root.join("base/bin").display());
    fs::write(root.join("venv/pyvenv.cfg"), home).expect("writable");
    let found = discover(&[&root.join("venv/bin")]);
    let python = found.first(ToolKind::Python).expect("found");
    assert!(python.ensurepip);
    assert_eq!(python.read_paths, [root.join("base"), root.join("venv")]);
}
