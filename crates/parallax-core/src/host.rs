//! Hosts: what runs replicas and builds.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::id::{HostId, TenantId};
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

/// How strong an isolation an agent demands.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum IsolationTier {
    /// A process of its own, without sight of other agents' files and processes.
    #[default]
    Process,
    /// A container with its own namespaces.
    Runc,
    /// A container behind a user-space kernel.
    Gvisor,
}

impl IsolationTier {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Runc => "runc",
            Self::Gvisor => "gvisor",
        }
    }
}

impl fmt::Display for IsolationTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! from_str {
    ($type:ident, $error:ident, $message:literal, [$($variant:ident),*]) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
        #[error($message)]
        pub struct $error;

        impl FromStr for $type {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                [$(Self::$variant),*].into_iter().find(|v| v.as_str() == text).ok_or($error)
            }
        }
    };
}

from_str!(
    IsolationMeans,
    UnknownMeans,
    "isolation means are landlock, bubblewrap, uid, none",
    [Landlock, Bubblewrap, Uid, None]
);
from_str!(
    IsolationTier,
    UnknownTier,
    "isolation tiers are process, runc, gvisor",
    [Process, Runc, Gvisor]
);
