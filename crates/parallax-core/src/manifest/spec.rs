//! The types of a parsed manifest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::quantity::{CpuMillis, MemoryBytes};
use crate::word::words;

words! {
    /// What an agent is written in.
    pub enum Language("a language") {
        TypeScript = "typescript",
        JavaScript = "javascript",
        Python = "python",
        Rust = "rust",
        Go = "go",
    }
}

words! {
    /// How strongly replicas are kept apart; a host that lacks the tier refuses, and never gives less.
    #[derive(Default)]
    pub enum IsolationTier("a tier of isolation") {
        /// An ordinary process that cannot read or signal others (Landlock, bubblewrap or a uid).
        #[default]
        Process = "process",
        /// A container.
        Runc = "runc",
        /// A container with a kernel of its own.
        Gvisor = "gvisor",
    }
}

words! {
    /// Whether the lockfile is obeyed.
    #[derive(Default)]
    pub enum InstallMode("a way to install") {
        /// Exactly what the lockfile says; a lockfile that does not fit fails the build.
        #[default]
        Frozen = "frozen",
        /// The lockfile is a hint: the package manager may resolve anew.
        Loose = "loose",
    }
}

/// Everything `parallax.toml` says, normalised. Its JSON is the `spec` part of a deploy request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// The agent's name, unique within the tenant.
    pub name: Name,
    /// Overrides detection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// Overrides detection: the program and its arguments; no shell is involved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Vec<String>>,
    /// The agent's own folder, relative to where the manifest (or the archive) begins.
    #[serde(default = "here", skip_serializing_if = "is_here")]
    pub root_dir: String,
    /// The folder that is uploaded, when it is more than `root_dir`: a workspace's root. Relative
    /// to the manifest, where it may begin with `..`; an upload carries it as `.` or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_dir: Option<String>,
    /// How many replicas to run. What is left out is not decided here: an agent that is there
    /// keeps its number, a new one gets [`DEFAULT_REPLICAS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Limits of each replica.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Environment of each replica; never secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Labels for people.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The isolation that the agent demands.
    #[serde(default)]
    pub isolation: IsolationTier,
    /// Whether the lockfile is obeyed.
    #[serde(default)]
    pub install: InstallMode,
    /// An HTTP check beside being registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<HttpProbe>,
    /// Milliseconds between SIGTERM and SIGKILL.
    #[serde(default = "default_stop_grace_ms")]
    pub stop_grace_ms: u64,
    /// Settings of the build alone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub build: BuildSettings,
}

/// Limits of one replica; what is absent is the host's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// CPU time per time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuMillis>,
    /// Memory, beyond which the replica is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryBytes>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
}

/// An HTTP check of a replica on the loopback address; 2xx and 3xx pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpProbe {
    /// The path to GET, beginning with `/`.
    pub http: String,
    /// The port the agent listens on.
    pub port: u16,
    /// Milliseconds between two checks.
    #[serde(default = "default_probe_interval_ms")]
    pub interval_ms: u64,
    /// Milliseconds after which one check counts as failed.
    #[serde(default = "default_probe_timeout_ms")]
    pub timeout_ms: u64,
}

/// Settings of the build alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildSettings {
    /// Environment of build steps; never secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// The part of a spec that matters at run time: changing it needs no build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// Overrides the plan's start command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Vec<String>>,
    /// Environment of the replica; wins over the plan's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Limits of the replica.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// An HTTP check beside being registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<HttpProbe>,
    /// Milliseconds between SIGTERM and SIGKILL.
    pub stop_grace_ms: u64,
    /// The isolation that the agent demands.
    pub isolation: IsolationTier,
}

/// The part of a spec that a builder needs: an equal one, on equal source, builds nothing anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildSpec {
    /// The agent's name, for messages.
    pub name: Name,
    /// Overrides detection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// Overrides detection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Vec<String>>,
    /// The agent's own folder, relative to the archive.
    #[serde(default = "here", skip_serializing_if = "is_here")]
    pub root_dir: String,
    /// The workspace's root, relative to the archive; searched for when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_dir: Option<String>,
    /// Whether the lockfile is obeyed.
    pub install: InstallMode,
    /// Environment of build steps.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// One replica answers; more are a decision about load or availability.
pub const DEFAULT_REPLICAS: u32 = 1;
/// Fifteen seconds: long enough to finish most tasks in hand, short enough for a rollout.
pub const DEFAULT_STOP_GRACE_MS: u64 = 15_000;
/// As often as an operator notices; the probe is beside the registration, which is immediate.
pub const DEFAULT_PROBE_INTERVAL_MS: u64 = 5_000;
/// A healthy handler on the same machine answers far sooner.
pub const DEFAULT_PROBE_TIMEOUT_MS: u64 = 2_000;

impl AgentSpec {
    /// A spec that says nothing but the name: everything else is detected or default.
    #[must_use]
    pub fn named(name: Name) -> Self {
        Self {
            name,
            language: None,
            start: None,
            root_dir: here(),
            context_dir: None,
            replicas: None,
            resources: Resources::default(),
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            isolation: IsolationTier::default(),
            install: InstallMode::default(),
            probe: None,
            stop_grace_ms: DEFAULT_STOP_GRACE_MS,
            build: BuildSettings::default(),
        }
    }

    /// What a replica is given.
    #[must_use]
    pub fn run(&self) -> RunSpec {
        RunSpec {
            start: self.start.clone(),
            env: self.env.clone(),
            resources: self.resources.clone(),
            probe: self.probe.clone(),
            stop_grace_ms: self.stop_grace_ms,
            isolation: self.isolation,
        }
    }

    /// What a builder is given.
    #[must_use]
    pub fn build(&self) -> BuildSpec {
        BuildSpec {
            name: self.name.clone(),
            language: self.language,
            start: self.start.clone(),
            root_dir: self.root_dir.clone(),
            context_dir: self.context_dir.clone(),
            install: self.install,
            env: self.build.env.clone(),
        }
    }
}

fn here() -> String {
    ".".to_owned()
}

fn is_here(path: &str) -> bool {
    path == "."
}

const fn default_stop_grace_ms() -> u64 {
    DEFAULT_STOP_GRACE_MS
}

const fn default_probe_interval_ms() -> u64 {
    DEFAULT_PROBE_INTERVAL_MS
}

const fn default_probe_timeout_ms() -> u64 {
    DEFAULT_PROBE_TIMEOUT_MS
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
