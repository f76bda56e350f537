//! Hosted agents.

use parallax_core::build::BuildPhase;
use parallax_core::id::{AgentId, BuildId, HostId, ReplicaId, RevisionId};
use parallax_core::replica::ReplicaPhase;
use parallax_core::status::{Phase, Reason, Verdict, is_carried_over, verdict};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;

/// A hosted agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentView {
    #[schema(value_type = String, example = "agt_06f9x2k8000000000000000000")]
    pub id: AgentId,
    #[schema(example = "sentiment-scorer")]
    pub name: String,
    /// As the spec says, or as a build has detected it; absent before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// `api` or `kubernetes`: the one door through which it may be changed.
    pub managed_by: String,
    /// Raised by every change of what is wanted.
    pub generation: u64,
    /// How many replicas are wanted.
    pub replicas: u32,
    pub suspended: bool,
    /// The wanted revision; absent before the first source arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionRef>,
    pub status: Status,
    pub created_at: Time,
    pub updated_at: Time,
}

/// Names a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevisionRef {
    #[schema(value_type = String)]
    pub id: RevisionId,
    /// Counts from 1 per agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// `sha256:…` of the source archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_digest: Option<String>,
}

/// One immutable version of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RevisionView {
    #[schema(value_type = String)]
    pub id: RevisionId,
    pub number: u64,
    pub source_digest: String,
    pub source_bytes: u64,
    /// The normalised spec; see `docs/reference/parallax-toml.md`.
    #[schema(value_type = Object)]
    pub spec: parallax_core::manifest::AgentSpec,
    pub created_at: Time,
    /// The name of the credential that deployed it.
    pub created_by: String,
}

/// How an agent is, derived from observations alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    #[schema(schema_with = crate::schema::phase)]
    pub phase: Phase,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = crate::schema::reason)]
    pub reason: Option<Reason>,
    /// The evidence: an exit code, a last log line, a host's own words.
    pub message: String,
    /// When phase or reason last changed.
    pub since: Time,
    /// The generation that this status speaks of; behind `generation` while a change is under way.
    pub observed_generation: u64,
    pub replicas: ReplicaCounts,
    pub conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaCounts {
    pub desired: u32,
    /// That take work now.
    pub ready: u32,
    /// That took work when they were last heard of, and may come back: for a lease's time after
    /// the server's start, and after their host's connection was lost. `phase` counts them as ready
    /// until then, so while this is not 0 it says how the agent was.
    #[serde(default)]
    pub unconfirmed: u32,
    /// Of the wanted revision, ready or not.
    pub updated: u32,
}

/// What a reader should know beside the phase: `HostConnected` and `AgentConnected` do not hold
/// while what is shown is what was last observed, `Isolated` where a host runs it without walls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Condition {
    pub kind: String,
    pub holds: bool,
    pub message: String,
}

/// The status of an agent with what it was derived from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatusView {
    #[schema(value_type = String)]
    pub id: AgentId,
    pub agent: String,
    pub generation: u64,
    #[serde(flatten)]
    pub status: Status,
    pub replica_details: Vec<ReplicaView>,
    /// The newest builds, newest first.
    pub builds: Vec<BuildView>,
}

impl StatusView {
    /// What somebody who waits for `generation` of the agent to be reached is to think of it.
    #[must_use]
    pub fn verdict(&self, generation: u64) -> Verdict {
        let status = &self.status;
        if status.observed_generation < generation {
            return Verdict::Wait;
        }
        let carried_over = |it: &Condition| is_carried_over(&it.kind, it.holds);
        let is_observed =
            status.replicas.unconfirmed == 0 && !status.conditions.iter().any(carried_over);
        match verdict(status.phase, status.reason, is_observed) {
            // Scaled to zero is asked for first, and true once the last of them has ended.
            Verdict::Done if status.reason == Some(Reason::ScaledToZero) && self.present() > 0 => {
                Verdict::Wait
            }
            decided => decided,
        }
    }

    /// How many replicas have not ended.
    #[must_use]
    pub fn present(&self) -> usize {
        let replicas = self.replica_details.iter();
        replicas.filter(|it| !it.phase.is_over()).count()
    }
}

/// A replica: what its host last observed, and what is known live.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaView {
    #[schema(value_type = String)]
    pub id: ReplicaId,
    /// The number of its revision.
    pub revision: u64,
    #[schema(value_type = String)]
    pub host: HostId,
    /// `run` or `stop`: what is wanted of it.
    pub want: String,
    #[schema(schema_with = crate::schema::replica_phase)]
    pub phase: ReplicaPhase,
    /// Whether it takes work: it runs, its agent is registered, and its probe (if any) passes.
    pub ready: bool,
    /// Whether its agent is connected now.
    pub registered: bool,
    /// When its agent was last heard of, where it was connected to this server and is not any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_at: Option<Time>,
    /// Whether its host is; while it is not, the rest is what the host said last.
    pub host_connected: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = crate::schema::reason)]
    pub reason: Option<Reason>,
    pub message: String,
    /// Counts process starts; 0 before the first.
    pub incarnation: u64,
    pub restarts: u32,
    /// How its last process ended; of one that runs, the process before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<ExitView>,
    /// Means in force, such as `landlock+cgroup1`; empty before its first start.
    pub isolation: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// CPU in thousandths of a core; absent while it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Tasks that it was given since the server started.
    pub requests: u64,
    pub in_flight: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
}

/// How a process ended. With neither code nor signal, nobody recorded how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExitView {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    pub out_of_memory: bool,
    pub ended_at: Time,
    pub last_log_line: String,
}

/// A build of a source on a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BuildView {
    #[schema(value_type = String)]
    pub id: BuildId,
    #[schema(value_type = String)]
    pub host: HostId,
    pub source_digest: String,
    #[schema(schema_with = crate::schema::build_phase)]
    pub phase: BuildPhase,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = crate::schema::reason)]
    pub reason: Option<Reason>,
    /// The step, its exit code, its last line.
    pub message: String,
    /// Whether the host had it prepared already and ran no step.
    pub cached: bool,
    pub created_at: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
}

/// How many replicas to run: `replicas`, or bounds to scale between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScaleRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Answers `not_implemented` in this release, like `max` and `target`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Tasks in flight per replica to aim at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<u32>,
}

/// What was last measured of an agent. Absent means not measured, never zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentMetrics {
    #[schema(value_type = String)]
    pub id: AgentId,
    pub agent: String,
    /// Sums over the replicas.
    pub requests: u64,
    pub in_flight: u32,
    pub restarts: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    pub replicas: Vec<ReplicaMetrics>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaMetrics {
    #[schema(value_type = String)]
    pub id: ReplicaId,
    pub requests: u64,
    pub in_flight: u32,
    pub restarts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}
