//! How an agent would be built and started: the JSON of `parallax plan --json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How an agent would be built and started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanView {
    /// Grows when a field changes its meaning.
    pub version: u32,
    #[schema(example = "typescript")]
    pub language: String,
    pub language_why: String,
    pub package_manager: PlannedManager,
    pub runtime: PlannedRuntime,
    pub start: PlannedStart,
    /// What is done before, in order.
    pub steps: Vec<PlannedStep>,
    /// The agent's own folder, relative to the source.
    pub root_dir: String,
    /// The workspace's root, relative to the source.
    pub context_dir: String,
    /// What decides, relative to the source, what the install steps produce; empty when nothing
    /// of it may be cached.
    pub cache_inputs: Vec<String>,
    /// What the install steps fill, relative to the source.
    pub dependency_dirs: Vec<String>,
    /// What was considered and not taken.
    pub losers: Vec<PlannedLoser>,
    /// What will work but deserves attention.
    pub warnings: Vec<String>,
}

/// What installs the dependencies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedManager {
    #[schema(example = "npm")]
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub why: String,
}

/// What runs the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedRuntime {
    #[schema(example = "node")]
    pub name: String,
    /// The versions that the project accepts, in its own notation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirement: Option<String>,
    pub resolved: PlannedProgram,
    pub why: String,
}

/// A program of the host that the plan is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedProgram {
    pub version: String,
    pub path: String,
}

/// How the agent is started, in `root_dir`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedStart {
    pub argv: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Folders, relative to `root_dir`, that come first in `PATH`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    pub why: String,
}

/// One command of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedStep {
    /// `tools`, `install`, `build` or `prune`.
    pub phase: String,
    pub name: String,
    pub argv: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Where it runs, relative to the source.
    pub cwd: String,
    /// Whether it may need the network.
    pub network: bool,
    pub why: String,
}

/// What was considered and not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedLoser {
    /// `language`, `package_manager`, `runtime` or `start`.
    pub kind: String,
    pub what: String,
    pub why: String,
}
