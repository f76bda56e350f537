//! The plan's shape: the JSON of `parallax plan --json` and of a build's state.

use std::collections::BTreeMap;
use std::path::PathBuf;

use parallax_core::manifest::Language;
use serde::{Deserialize, Serialize};

/// The version of the plan's shape; it grows when a field changes its meaning.
pub const PLAN_VERSION: u32 = 1;

/// How an agent is built and started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// What the agent is written in.
    pub language: Language,
    /// Why that language.
    pub language_why: String,
    /// What installs the dependencies.
    pub package_manager: PackageManager,
    /// What runs the agent.
    pub runtime: Runtime,
    /// How it is started, in `root_dir`.
    pub start: Start,
    /// What is done before, in order.
    pub steps: Vec<Step>,
    /// The agent's own folder, relative to the source.
    pub root_dir: String,
    /// The workspace's root, relative to the source; equal to `root_dir` without a workspace.
    pub context_dir: String,
    /// Files and folders, relative to the source, that decide what the install steps produce;
    /// empty when that cannot be told from a few files, so that nothing may be cached.
    pub cache_inputs: Vec<String>,
    /// Folders, relative to the source, that the install steps fill: what a cache keeps.
    pub dependency_dirs: Vec<String>,
    /// What was considered and not taken.
    pub losers: Vec<Loser>,
    /// What will work but deserves attention.
    pub warnings: Vec<String>,
}

/// What installs the dependencies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageManager {
    /// `npm`, `pnpm`, `yarn`, `uv`, `pip`, `poetry`, `pdm` or `pipenv`.
    pub name: String,
    /// The version that is asked for or found, where one matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why this one.
    pub why: String,
}

/// What runs the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// `node` or `python`.
    pub name: String,
    /// The versions that the project accepts, in its own notation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirement: Option<String>,
    /// The one that is used.
    pub resolved: Resolved,
    /// Why this one.
    pub why: String,
}

/// A program of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolved {
    /// Its version.
    pub version: String,
    /// Where it is.
    pub path: PathBuf,
}

/// How the agent is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The program and its arguments. A program with a `/` is relative to `root_dir`; any other is
    /// looked up in `path` first, then beside the runtime, then on the host's own search path.
    pub argv: Vec<String>,
    /// Environment that the command needs; the manifest's wins over it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Folders, relative to `root_dir`, that come first in `PATH`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    /// Why this command.
    pub why: String,
}

/// What a step is for. A cache of dependencies replaces every step of [`Phase::Install`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Makes the tools that the other steps use; needed only when a step after it runs.
    Tools,
    /// Fills the dependency folders.
    Install,
    /// Makes what is started.
    Build,
    /// Removes what only the build needed.
    Prune,
}

/// One command of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What it is for.
    pub phase: Phase,
    /// For people: `install dependencies`.
    pub name: String,
    /// The program and its arguments, found as [`Start::argv`] is, relative to `cwd`.
    pub argv: Vec<String>,
    /// Environment beside the minimal one that every step gets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Where it runs, relative to the source.
    pub cwd: String,
    /// Whether it may need the network.
    pub network: bool,
    /// Why it is needed.
    pub why: String,
}

/// What kind of choice was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoserKind {
    /// Another language was also there.
    Language,
    /// Another package manager was also there.
    PackageManager,
    /// Another runtime was also there.
    Runtime,
    /// Another command could have started it.
    Start,
}

/// What was considered and not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loser {
    /// The choice.
    pub kind: LoserKind,
    /// What lost.
    pub what: String,
    /// Why it lost.
    pub why: String,
}
