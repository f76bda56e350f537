//! The status of an agent, derived from observations and from nothing else.

use std::fmt;
use std::str::FromStr;

use crate::build::{Build, BuildPhase};
use crate::placement::Unschedulable;
use crate::replica::{Replica, ReplicaPhase, Want};
use crate::time::Timestamp;

/// What `GET /api/agents/{id}/status` shows.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Status {
    pub phase: Phase,
    pub reason: Option<Reason>,
    /// Evidence for the reason: an exit code, a last log line, a host's own words.
    pub message: String,
    /// When the phase or the reason last changed.
    pub since: Timestamp,
    /// The generation of the agent that this status speaks of.
    pub observed_generation: u64,
    pub replicas: ReplicaCounts,
    /// Lasting facts that a reader should know, such as a missing isolation.
    pub conditions: Vec<Condition>,
}

impl Status {
    /// Of an agent that was just created.
    #[must_use]
    pub fn pending(now: Timestamp) -> Self {
        Self {
            phase: Phase::Pending,
            reason: None,
            message: String::new(),
            since: now,
            observed_generation: 0,
            replicas: ReplicaCounts::default(),
            conditions: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct ReplicaCounts {
    pub desired: u32,
    pub ready: u32,
    /// Of the wanted revision, ready or not.
    pub updated: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Condition {
    pub kind: String,
    pub holds: bool,
    pub message: String,
}

macro_rules! words {
    ($(#[$doc:meta])* $type:ident, $error:ident { $($(#[$vdoc:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $type { $($(#[$vdoc])* $variant,)* }

        impl $type {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)* }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                Self::ALL.iter().copied().find(|v| v.as_str() == text).ok_or($error)
            }
        }

        #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
        #[error("not a word that this version knows")]
        pub struct $error;
    };
}

words! {
    /// Where an agent stands.
    Phase, UnknownAgentPhase {
        Pending,
        Building,
        Starting,
        Ready,
        /// Some replicas serve, fewer than wanted.
        Degraded,
        Failed,
        Suspended,
        Draining,
        Deleted,
    }
}

words! {
    /// Why. A closed list, so that programs can decide by it.
    Reason, UnknownReason {
        BuildFailed,
        BuildCancelled,
        BuildTimedOut,
        SourceUnavailable,
        PlanFailed,
        StartCommandMissing,
        StartFailed,
        CrashLoop,
        /// The start command ended with code 0 although an agent should stay.
        ExitedEarly,
        OutOfMemory,
        NotRegistered,
        ProbeFailed,
        Unschedulable,
        ImagePull,
        NoContainerRuntime,
        QuotaExceeded,
        IsolationUnavailable,
        SecretMissing,
        HostLost,
        ShimLost,
        StorageFull,
        ScaledToZero,
        RollingOut,
    }
}

/// Everything that the status of an agent is derived from.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    pub generation: u64,
    pub desired: u32,
    pub suspended: bool,
    pub deleting: bool,
    /// The wanted revision's number; `None` before the first source.
    pub revision_number: Option<u64>,
    /// The builds of the wanted revision.
    pub builds: &'a [Build],
    pub replicas: &'a [ReplicaEvidence],
    /// Why a replica could not be placed, in the scheduler's words.
    pub unschedulable: Option<&'a Unschedulable>,
    pub conditions: &'a [Condition],
}

/// A replica and whether its agent is registered now.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaEvidence {
    pub replica: Replica,
    pub registered: bool,
}

impl ReplicaEvidence {
    /// Whether the replica takes work: it runs, its agent has registered over gRPC, and its probe
    /// (if it has one) passes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.replica.want == Want::Run
            && self.replica.observed.phase == ReplicaPhase::Running
            && self.registered
            && self.replica.observed.probe_ok != Some(false)
    }
}

/// Derives the status at `now`; `since` stays when neither phase nor reason changed.
#[must_use]
pub fn derive(evidence: &Evidence<'_>, previous: &Status, now: Timestamp) -> Status {
    let counts = count(evidence);
    let (phase, reason, message) = judge(evidence, counts);
    let same = previous.phase == phase && previous.reason == reason;
    Status {
        phase,
        reason,
        message,
        since: if same { previous.since } else { now },
        observed_generation: evidence.generation,
        replicas: counts,
        conditions: evidence.conditions.to_vec(),
    }
}

type Verdict = (Phase, Option<Reason>, String);

fn count(evidence: &Evidence<'_>) -> ReplicaCounts {
    let of_number =
        |e: &&ReplicaEvidence| Some(e.replica.revision_number) == evidence.revision_number;
    let live =
        |e: &&ReplicaEvidence| e.replica.want == Want::Run && !e.replica.observed.phase.is_over();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    ReplicaCounts {
        desired: evidence.desired,
        ready: number(evidence.replicas.iter().filter(|e| e.is_ready()).count()),
        updated: number(
            evidence
                .replicas
                .iter()
                .filter(of_number)
                .filter(live)
                .count(),
        ),
    }
}

fn judge(evidence: &Evidence<'_>, counts: ReplicaCounts) -> Verdict {
    let present = evidence
        .replicas
        .iter()
        .any(|e| !e.replica.observed.phase.is_over());
    if evidence.deleting {
        let phase = if present {
            Phase::Draining
        } else {
            Phase::Deleted
        };
        return (phase, None, String::new());
    }
    if evidence.suspended {
        let phase = if present {
            Phase::Draining
        } else {
            Phase::Suspended
        };
        return (phase, None, String::new());
    }
    let Some(number) = evidence.revision_number else {
        return (
            Phase::Pending,
            None,
            "no source was deployed yet".to_owned(),
        );
    };
    if evidence.desired == 0 {
        return (
            Phase::Ready,
            Some(Reason::ScaledToZero),
            "0 replicas are wanted".to_owned(),
        );
    }
    let trouble = trouble(evidence);
    let updated_ready = evidence
        .replicas
        .iter()
        .filter(|e| e.replica.revision_number == number && e.is_ready())
        .count();
    let complete = updated_ready >= evidence.desired as usize;
    match (complete, counts.ready, trouble) {
        (true, _, _) => (Phase::Ready, None, String::new()),
        (false, 0, Some((reason, message))) => (Phase::Failed, Some(reason), message),
        (false, 0, None) => in_progress(evidence),
        (false, ready, None) if ready >= evidence.desired => (
            Phase::Ready,
            Some(Reason::RollingOut),
            format!("revision {number} is being rolled out"),
        ),
        (false, _, None) => (Phase::Degraded, None, shortfall(counts)),
        (false, _, Some((reason, message))) => (
            Phase::Degraded,
            Some(reason),
            format!("{}; {message}", shortfall(counts)),
        ),
    }
}

fn shortfall(counts: ReplicaCounts) -> String {
    format!("{} of {} replicas are ready", counts.ready, counts.desired)
}

fn in_progress(evidence: &Evidence<'_>) -> Verdict {
    if let Some(build) = evidence.builds.iter().find(|b| !b.phase.is_terminal()) {
        let message = match build.phase {
            BuildPhase::Queued => "waiting for a host to begin the build".to_owned(),
            phase if build.message.is_empty() => phase.to_string(),
            phase => format!("{phase}: {}", build.message),
        };
        return (Phase::Building, None, message);
    }
    let waiting = evidence
        .replicas
        .iter()
        .find(|e| e.replica.observed.phase == ReplicaPhase::Running && !e.registered);
    if evidence.replicas.is_empty() {
        return (Phase::Pending, None, "waiting for a host".to_owned());
    }
    match waiting {
        Some(_) => (
            Phase::Starting,
            Some(Reason::NotRegistered),
            "the process runs and has not registered yet".to_owned(),
        ),
        None => (Phase::Starting, None, String::new()),
    }
}

/// The worst thing that stands in the way of the wanted revision, if anything does.
fn trouble(evidence: &Evidence<'_>) -> Option<(Reason, String)> {
    if let Some(nowhere) = evidence.unschedulable {
        let reason = match nowhere.isolation_only {
            true => Reason::IsolationUnavailable,
            false => Reason::Unschedulable,
        };
        return Some((reason, nowhere.words.clone()));
    }
    let failed = evidence
        .builds
        .iter()
        .find(|b| matches!(b.phase, BuildPhase::Failed | BuildPhase::Cancelled));
    if let Some(build) = failed {
        let reason = build.reason.unwrap_or(match build.phase {
            BuildPhase::Cancelled => Reason::BuildCancelled,
            _ => Reason::BuildFailed,
        });
        return Some((reason, build.message.clone()));
    }
    let wanted = |e: &&ReplicaEvidence| e.replica.want == Want::Run && !e.is_ready();
    evidence
        .replicas
        .iter()
        .filter(wanted)
        .filter_map(|e| {
            let reason = e.replica.observed.reason?;
            let message = match &e.replica.observed.exit {
                Some(exit) if e.replica.observed.message.is_empty() => exit.to_string(),
                _ => e.replica.observed.message.clone(),
            };
            Some((e.replica.revision_number, reason, message))
        })
        .max_by_key(|(number, ..)| *number)
        .map(|(_, reason, message)| (reason, message))
}

#[cfg(test)]
mod tests;
