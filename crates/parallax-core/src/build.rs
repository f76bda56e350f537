//! The preparation of a revision on a host.

use crate::id::{AgentId, BuildId, HostId, TenantId};
use crate::manifest::BuildSpec;
use crate::name::Name;
use crate::status::Reason;
use crate::time::Timestamp;
use crate::word::words;

/// One build of one source on one host. There is at most one for each (host, key).
#[derive(Debug, Clone, PartialEq)]
pub struct Build {
    pub tenant: TenantId,
    pub id: BuildId,
    pub agent: AgentId,
    pub agent_name: Name,
    pub host: HostId,
    pub key: String,
    pub source_digest: String,
    pub source_bytes: u64,
    pub spec: BuildSpec,
    pub phase: BuildPhase,
    pub reason: Option<Reason>,
    /// Evidence: the step, its exit code, its last line.
    pub message: String,
    /// The plan as `parallax plan --json` prints it, once it was made.
    pub plan_json: Option<String>,
    /// Whether the host found the prepared directory and ran no step.
    pub cached: bool,
    pub cancel_requested: bool,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
}

words! {
    /// How far a build has come, as its host reported it.
    pub enum BuildPhase("a build phase") {
        Queued = "queued",
        Fetching = "fetching",
        Planning = "planning",
        Running = "running",
        Succeeded = "succeeded",
        Failed = "failed",
        Cancelled = "cancelled",
    }
}

impl BuildPhase {
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// Whether a report may move a build from here to `next`. Going back is allowed between the
    /// phases of work (a host that was restarted begins anew), never out of an end.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        !self.is_terminal() && !matches!(next, Self::Queued)
    }
}

/// What makes two builds interchangeable: the same source and the same build settings. The
/// toolchain of the host is its own matter: a host that upgrades it builds again.
#[must_use]
pub fn build_key(source_digest: &str, spec: &BuildSpec) -> String {
    let spec = serde_json::to_string(spec).expect("a build spec has only string keys");
    format!("{source_digest}+{spec}")
}
