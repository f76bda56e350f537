//! Hosts: what runs replicas and builds.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::id::{HostId, TenantId};
use crate::manifest::IsolationTier;
use crate::name::Name;
use crate::quantity::{CpuMillis, MemoryBytes};
use crate::time::Timestamp;

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
    /// How limits are enforced: `cgroup1`, `cgroup2`, `rlimit`.
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

/// What keeps replicas on one host apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IsolationMeans {
    Landlock,
    Bubblewrap,
    Uid,
    None,
}

impl IsolationMeans {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Landlock => "landlock",
            Self::Bubblewrap => "bubblewrap",
            Self::Uid => "uid",
            Self::None => "none",
        }
    }
}

impl fmt::Display for IsolationMeans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no means of isolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("isolation means are landlock, bubblewrap, uid, none")]
pub struct UnknownMeans;

impl FromStr for IsolationMeans {
    type Err = UnknownMeans;

    fn from_str(text: &str) -> Result<Self, UnknownMeans> {
        let all = [Self::Landlock, Self::Bubblewrap, Self::Uid, Self::None];
        all.into_iter()
            .find(|means| means.as_str() == text)
            .ok_or(UnknownMeans)
    }
}
