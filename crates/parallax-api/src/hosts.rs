//! Hosts.

use std::collections::BTreeMap;
use std::fmt;

use parallax_core::id::HostId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;

/// Something that runs replicas and builds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostView {
    #[schema(value_type = String)]
    pub id: HostId,
    pub name: String,
    /// Whether its session is open now. One that hangs counts as connected for 20 seconds.
    pub connected: bool,
    /// Its last heartbeat.
    pub last_seen_at: Time,
    pub created_at: Time,
    /// What replicas are there: `local`, processes of the host's machine, whichever machine that is;
    /// or `kubernetes`.
    pub kind: String,
    pub arch: String,
    pub os: String,
    pub version: String,
    /// In thousandths of a core.
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    /// Means of isolation as the host probed them: `landlock`, `bubblewrap`, `uid`, `none`.
    pub isolation: String,
    /// Tiers that an agent may demand there.
    pub isolation_tiers: Vec<String>,
    /// How limits are enforced: `cgroup1`, `cgroup2`, `cgroup2(cpu,pids)` (not memory), `rlimit`.
    pub limits: String,
    /// Languages that it builds.
    pub builders: Vec<String>,
    pub labels: BTreeMap<String, String>,
    /// It was told to run agents although it cannot keep them apart.
    pub unsafe_no_isolation: bool,
    pub max_replicas: u32,
}

/// A single-use join token; shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinToken {
    pub token: String,
    /// How long it waits to be used, in seconds.
    pub expires_in_s: u64,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").finish_non_exhaustive()
    }
}
