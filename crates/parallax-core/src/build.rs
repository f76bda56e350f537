//! The preparation of a revision on a host.

use std::fmt;
use std::str::FromStr;

use crate::id::{AgentId, BuildId, HostId, TenantId};
use crate::manifest::BuildSpec;
use crate::name::Name;
use crate::status::Reason;
use crate::time::Timestamp;

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

/// How far a build has come, as its host reported it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildPhase {
    Queued,
    Fetching,
    Planning,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl BuildPhase {
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Fetching,
        Self::Planning,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Fetching => "fetching",
            Self::Planning => "planning",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

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

impl fmt::Display for BuildPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BuildPhase {
    type Err = UnknownPhase;

    fn from_str(text: &str) -> Result<Self, UnknownPhase> {
        Self::ALL
            .into_iter()
            .find(|phase| phase.as_str() == text)
            .ok_or(UnknownPhase)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a phase that this version knows")]
pub struct UnknownPhase;

/// What makes two builds interchangeable: the same source and the same build settings. The
/// toolchain of the host is its own matter: a host that upgrades it builds again.
#[must_use]
pub fn build_key(source_digest: &str, spec: &BuildSpec) -> String {
    let spec = serde_json::to_string(spec).expect("a build spec has only string keys");
    format!("{source_digest}+{spec}")
}
