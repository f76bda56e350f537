//! What a replica's folder remembers, so that a host can go on without its server.

use std::fmt;
use std::str::FromStr;

use parallax_core::id::{AgentId, BuildId, ReplicaId, RevisionId, TenantId};
use parallax_core::manifest::RunSpec;
use parallax_core::name::Name;
use parallax_core::replica::Exit;
use parallax_core::status::Reason;
use parallax_core::time::Timestamp;
use parallax_proto::v1::{DesiredReplica, desired_replica};
use parallax_shim::durable;
use serde::{Deserialize, Serialize};

use crate::error::HostError;
use crate::layout::{self, Layout, ReplicaDir};

/// The format of `desired.json` and `progress.json` that this build reads and writes.
const VERSION: u32 = 1;

/// What a server has asked of a replica (`desired.json`). The credential is not part of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Assignment {
    version: u32,
    pub(crate) replica: ReplicaId,
    pub(crate) tenant: TenantId,
    pub(crate) agent: AgentId,
    pub(crate) agent_name: Name,
    pub(crate) revision: RevisionId,
    pub(crate) revision_number: u64,
    pub(crate) run: bool,
    pub(crate) build: BuildId,
    pub(crate) spec: RunSpec,
    /// Where the agent dials.
    pub(crate) server_url: String,
    pub(crate) stop_grace_ms: u64,
}

/// A credential that does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// `None` when there is none to keep.
    pub(crate) fn new(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a desired replica cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssignmentError {
    #[error("the server sent `{text}` as the {field} of a replica")]
    Field {
        field: &'static str,
        text: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the server sent run settings that this version does not know; upgrade the host")]
    Spec(#[source] serde_json::Error),
    #[error("the server said neither run nor stop; upgrade the host")]
    Want,
}

impl Assignment {
    /// Checks what a server sent, once.
    pub(crate) fn parse(wire: &DesiredReplica) -> Result<Self, AssignmentError> {
        let run = match wire.want() {
            desired_replica::Want::Run => true,
            desired_replica::Want::Stop => false,
            desired_replica::Want::Unspecified => return Err(AssignmentError::Want),
        };
        Ok(Self {
            version: VERSION,
            replica: field("id", &wire.replica_id)?,
            tenant: field("tenant", &wire.tenant_id)?,
            agent: field("agent", &wire.agent_id)?,
            agent_name: field("agent name", &wire.agent_name)?,
            revision: field("revision", &wire.revision_id)?,
            revision_number: wire.revision_number,
            run,
            build: field("build", &wire.build_id)?,
            spec: serde_json::from_slice(&wire.run_spec_json).map_err(AssignmentError::Spec)?,
            server_url: wire.server_url.clone(),
            stop_grace_ms: wire.stop_grace_ms,
        })
    }
}

fn field<T>(field: &'static str, text: &str) -> Result<T, AssignmentError>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse()
        .map_err(|error: T::Err| AssignmentError::Field {
            field,
            text: text.chars().take(80).collect(),
            source: error.into(),
        })
}

/// How a replica has fared on this host (`progress.json`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    version: u32,
    /// The last incarnation whose end is part of the numbers below.
    pub(crate) accounted: u64,
    /// Process starts after the first.
    pub(crate) restarts: u32,
    /// Crashes in a row.
    pub(crate) crashes: u32,
    /// How the last incarnation ended.
    pub(crate) last: Option<LastEnd>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            version: VERSION,
            accounted: 0,
            restarts: 0,
            crashes: 0,
            last: None,
        }
    }
}

/// The end of an incarnation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LastEnd {
    /// What the shim recorded; absent when nobody did, or when nothing was started.
    pub(crate) exit: Option<Exit>,
    /// When the host learnt of it, or when the process ended if that was recorded.
    pub(crate) at: Timestamp,
    /// Why it matters; absent after an asked-for stop.
    #[serde(with = "reason_word")]
    pub(crate) reason: Option<Reason>,
    /// Evidence for people.
    pub(crate) message: String,
    /// Whether it ended because somebody asked.
    pub(crate) on_purpose: bool,
    /// Whether the end was recorded.
    pub(crate) recorded: bool,
}

/// What a folder holds at the start of a host.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) assignment: Assignment,
    pub(crate) progress: Progress,
    /// The newest incarnation; 0 before the first.
    pub(crate) incarnation: u64,
}

/// Reads a replica's folder; `None` when it does not say what the replica is (the host ended
/// while it was being made).
///
/// # Errors
/// When the records cannot be read.
pub(crate) fn load(layout: &Layout, id: ReplicaId) -> Result<Option<Load>, HostError> {
    let dir = layout.replica(id);
    let Some(assignment) = durable::read_json::<Assignment>(&dir.desired())? else {
        return Ok(None);
    };
    Ok(Some(Load {
        assignment,
        progress: load_progress(&dir)?,
        incarnation: newest_incarnation(&dir)?,
    }))
}

/// Reads `progress.json`.
///
/// # Errors
/// When it exists and cannot be read.
pub(crate) fn load_progress(dir: &ReplicaDir) -> Result<Progress, HostError> {
    Ok(durable::read_json(&dir.progress())?.unwrap_or_default())
}

/// The newest incarnation that has a folder; 0 when there is none.
///
/// # Errors
/// When the folder cannot be listed.
pub(crate) fn newest_incarnation(dir: &ReplicaDir) -> Result<u64, HostError> {
    let numbers = layout::numbered(dir.path()).map_err(HostError::io("list", dir.path()))?;
    Ok(numbers.last().copied().unwrap_or(0))
}

/// Reasons as their words: what a newer version wrote and this one does not know reads as none.
mod reason_word {
    use parallax_core::status::Reason;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        reason: &Option<Reason>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        reason.map(Reason::as_str).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Reason>, D::Error> {
        let word = Option::<String>::deserialize(deserializer)?;
        Ok(word.and_then(|word| word.parse().ok()))
    }
}
