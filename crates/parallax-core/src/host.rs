//! Hosts: what runs replicas and builds.

mod limits;

use std::collections::BTreeMap;

use crate::id::{HostId, TenantId};
use crate::manifest::IsolationTier;
use crate::name::Name;
use crate::quantity::{CpuMillis, MemoryBytes};
use crate::time::Timestamp;
use crate::word::words;

pub use limits::KernelLimits;

/// A host that has joined.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    pub tenant: TenantId,
    pub id: HostId,
    pub name: Name,
    pub facts: HostFacts,
    /// Raised by every session of the host and persisted; frames of older epochs are refused.
    pub epoch: u64,
    pub last_seen_at: Timestamp,
    pub created_at: Timestamp,
}

/// What a host says of itself, as it probed it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct HostFacts {
    pub kind: String,
    pub arch: String,
    pub os: String,
    pub cpu: CpuMillis,
    pub memory: MemoryBytes,
    pub isolation: IsolationMeans,
    pub tiers: Vec<IsolationTier>,
    /// How limits are enforced, as [`KernelLimits`] writes it: `cgroup2`, `cgroup1(cpu,pids)`,
    /// `rlimit`.
    pub limits: String,
    pub builders: Vec<String>,
    pub version: String,
    pub labels: BTreeMap<String, String>,
    pub unsafe_no_isolation: bool,
    pub boot_id: String,
    pub max_replicas: u32,
    /// Runtimes and package managers, of each kind the preferred one first; empty when the host
    /// has not said.
    #[serde(default)]
    pub tools: Vec<HostTool>,
}

/// A runtime or package manager of a host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HostTool {
    /// `node`, `npm`, `python` and so on.
    pub kind: String,
    pub version: String,
    pub path: String,
    /// Python: whether `python -m venv` can put pip into the environment.
    pub ensurepip: bool,
}

/// Whether a host is there. Missing for a moment is not gone: for one lease after its connection
/// ended, or after the server was started, it may come back as if nothing had been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    Connected,
    /// Not heard since a moment ago; how it is now is not known.
    Awaited,
    /// It has stayed away for longer than a lease.
    Away,
}

words! {
    /// What keeps replicas on one host apart.
    pub enum IsolationMeans("a means of isolation") {
        Landlock = "landlock",
        Bubblewrap = "bubblewrap",
        Uid = "uid",
        None = "none",
    }
}
