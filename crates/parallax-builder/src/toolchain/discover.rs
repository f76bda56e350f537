//! Where tools are found, and what must be readable for them to run.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::probe::version_of;
use super::{Tool, ToolKind, Toolchain};

/// The most programs that are asked for their version: a long PATH must not delay a start.
const MAX_PROBES: usize = 32;

impl Toolchain {
    /// Finds the tools on `search_path`, which is a `PATH`, and the interpreters behind pyenv's
    /// shims. Takes as long as the slowest `--version`, at most ten seconds each.
    #[must_use]
    pub fn discover(search_path: &OsStr) -> Self {
        let mut candidates = Vec::new();
        let mut seen = BTreeSet::new();
        for folder in std::env::split_paths(search_path).filter(|folder| folder.is_absolute()) {
            for (kind, path) in in_folder(&folder) {
                let Ok(real) = path.canonicalize() else {
                    continue; // A dangling link is no tool.
                };
                // `python3` and `python3.11` are often one file; npm's and pnpm's may be too.
                if seen.insert((kind, real)) {
                    candidates.push((kind, path));
                }
            }
        }
        candidates.truncate(MAX_PROBES);
        let tools = std::thread::scope(|scope| {
            let asked: Vec<_> = candidates
                .into_iter()
                .map(|(kind, path)| scope.spawn(move || inspect(kind, path, search_path)))
                .collect();
            asked
                .into_iter()
                .filter_map(|thread| thread.join().expect("inspecting a program does not panic"))
                .collect()
        });
        Self { tools }
    }
}

/// The tools of one folder of the search path, in order of preference.
fn in_folder(folder: &Path) -> Vec<(ToolKind, PathBuf)> {
    if let Some(pythons) = behind_pyenv_shims(folder) {
        return pythons;
    }
    let mut found = Vec::new();
    for kind in [
        ToolKind::Node,
        ToolKind::Npm,
        ToolKind::Pnpm,
        ToolKind::Yarn,
        ToolKind::Uv,
    ] {
        let path = folder.join(kind.program());
        if is_executable(&path) {
            found.push((kind, path));
        }
    }
    found.extend(pythons_in(folder));
    found
}

/// `python3`, `python`, then `python3.X` from the newest.
fn pythons_in(folder: &Path) -> Vec<(ToolKind, PathBuf)> {
    let mut versioned: Vec<(u32, PathBuf)> = Vec::new();
    // A folder of the search path that cannot be listed holds no tools that we could name.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let minor = name
            .to_str()
            .and_then(|name| name.strip_prefix("python3."))
            .and_then(|minor| minor.parse().ok()); // `python3.11-config` is no interpreter.
        if let Some(minor) = minor {
            versioned.push((minor, entry.path()));
        }
    }
    versioned.sort();
    ["python3", "python"]
        .map(|name| folder.join(name))
        .into_iter()
        .chain(versioned.into_iter().rev().map(|(_, path)| path))
        .filter(|path| is_executable(path))
        .map(|path| (ToolKind::Python, path))
        .collect()
}

/// A shim is a script that runs the version its caller's folder asks for: useless in a sandbox.
/// The interpreters behind it stand in `versions/`; the ones of the `version` file come first.
fn behind_pyenv_shims(folder: &Path) -> Option<Vec<(ToolKind, PathBuf)>> {
    let root = folder.parent().filter(|_| folder.ends_with("shims"))?;
    let versions = std::fs::read_dir(root.join("versions")).ok()?; // Not pyenv's shims.
    let global = std::fs::read_to_string(root.join("version")).unwrap_or_else(|_| String::new());
    let preferred: Vec<&str> = global.split_whitespace().collect();
    let mut folders: Vec<PathBuf> = versions.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    folders.sort_by_key(|path| {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or("");
        preferred
            .iter()
            .position(|version| *version == name)
            .unwrap_or(preferred.len())
    });
    Some(
        folders
            .iter()
            .flat_map(|version| pythons_in(&version.join("bin")))
            .collect(),
    )
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn inspect(kind: ToolKind, path: PathBuf, search_path: &OsStr) -> Option<Tool> {
    let version = version_of(&path, search_path)?;
    let mut read_paths = readable_for(&path);
    let ensurepip = kind == ToolKind::Python && has_ensurepip(&path, &version);
    if kind == ToolKind::Python {
        read_paths.extend(base_of_virtual_env(&path));
    }
    read_paths.sort();
    read_paths.dedup();
    Some(Tool {
        kind,
        version,
        path,
        read_paths,
        ensurepip,
    })
}

/// The installation prefixes of the program as called and as it really is: `/usr/bin/node` needs
/// `/usr`, `/home/me/.pyenv/versions/3.11.7/bin/python` needs `/home/me/.pyenv/versions/3.11.7`.
fn readable_for(path: &Path) -> Vec<PathBuf> {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut paths: Vec<PathBuf> = [path, real.as_path()].into_iter().map(prefix_of).collect();
    // Every link on the way must be readable too, such as pyenv's `3.11 -> 3.11.7`.
    if let Some(parent) = path.parent().and_then(|parent| parent.canonicalize().ok()) {
        paths.push(prefix_of(&parent.join("program")));
    }
    paths
}

fn prefix_of(program: &Path) -> PathBuf {
    let folder = program.parent().unwrap_or(program);
    let is_bin = folder.file_name().is_some_and(|name| name == "bin");
    match folder.parent() {
        // `/bin` without the merge into `/usr`: the whole system is no prefix.
        Some(prefix) if is_bin && prefix != Path::new("/") => prefix.to_owned(),
        // A package such as `lib/node_modules/npm/bin/npm-cli.js` was handled above; anything
        // else is a program beside its files.
        _ => folder.to_owned(),
    }
}

fn has_ensurepip(path: &Path, version: &str) -> bool {
    let minor: Vec<&str> = version.splitn(3, '.').take(2).collect();
    let lib = format!("lib/python{}/ensurepip/__init__.py", minor.join("."));
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let prefixes = [prefix_of(path), prefix_of(&real)];
    prefixes
        .iter()
        .chain(base_of_virtual_env(path).iter())
        .any(|prefix| prefix.join(&lib).is_file())
}

/// A virtual environment borrows its library from the interpreter it was made with.
fn base_of_virtual_env(path: &Path) -> Option<PathBuf> {
    let prefix = path.parent()?.parent()?;
    let config = std::fs::read_to_string(prefix.join("pyvenv.cfg")).ok()?; // No environment.
    let home = config.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "home").then(|| PathBuf::from(value.trim()))
    })?;
    Some(prefix_of(&home.join("python")))
}

#[cfg(test)]
mod tests;
