//! The runtimes and package managers of this machine.
//!
//! Discovery starts no process but `PROGRAM --version`, with a deadline, and reads the rest from
//! the file system.

mod discover;
mod probe;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a tool is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolKind {
    /// The JavaScript runtime.
    Node,
    /// Node's own package manager.
    Npm,
    /// A package manager for Node.
    Pnpm,
    /// A package manager for Node.
    Yarn,
    /// The Python interpreter.
    Python,
    /// A package manager for Python.
    Uv,
}

impl ToolKind {
    /// The program's name.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Npm => "npm",
            Self::Pnpm => "pnpm",
            Self::Yarn => "yarn",
            Self::Python => "python",
            Self::Uv => "uv",
        }
    }
}

/// One program that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// What it is for.
    pub kind: ToolKind,
    /// Its version, as it printed it, without a leading `v`.
    pub version: String,
    /// The program to execute, never a version manager's shim.
    pub path: PathBuf,
    /// Folders and files that must be readable for it to run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read_paths: Vec<PathBuf>,
    /// Python: whether `python -m venv` can put pip into the environment (Debian ships
    /// interpreters that cannot).
    #[serde(default)]
    pub ensurepip: bool,
}

/// The tools of a machine; of each kind, the one that a shell would run comes first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Toolchain {
    /// The tools.
    pub tools: Vec<Tool>,
}

impl Toolchain {
    /// The tools of a kind, the preferred one first.
    pub fn of(&self, kind: ToolKind) -> impl Iterator<Item = &Tool> {
        self.tools.iter().filter(move |tool| tool.kind == kind)
    }

    /// The preferred tool of a kind.
    #[must_use]
    pub fn first(&self, kind: ToolKind) -> Option<&Tool> {
        self.of(kind).next()
    }

    /// Everything that must be readable for the tools to run, sorted, without folders that lie in
    /// others of the list.
    #[must_use]
    pub fn read_paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = self
            .tools
            .iter()
            .flat_map(|tool| tool.read_paths.iter().cloned())
            .collect();
        paths.sort();
        paths.dedup();
        let all = paths.clone();
        paths.retain(|path| {
            !all.iter()
                .any(|other| other != path && path.starts_with(other))
        });
        paths
    }

    /// The languages that can be built here, for the host's facts.
    #[must_use]
    pub fn languages(&self) -> Vec<&'static str> {
        let mut languages = Vec::new();
        if self.first(ToolKind::Node).is_some() && self.first(ToolKind::Npm).is_some() {
            languages.extend(["typescript", "javascript"]);
        }
        let usable = self.first(ToolKind::Uv).is_some();
        if self
            .of(ToolKind::Python)
            .any(|python| usable || python.ensurepip)
        {
            languages.push("python");
        }
        languages
    }
}
