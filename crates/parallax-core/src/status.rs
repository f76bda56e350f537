//! The status of an agent, derived from observations and from nothing else.

use std::time::Duration;

use crate::build::{Build, BuildPhase};
use crate::host::Contact;
use crate::placement::Unschedulable;
use crate::replica::{Replica, ReplicaPhase, Want};
use crate::time::Timestamp;

mod verdict;

use crate::word::words;
pub use verdict::{Verdict, is_carried_over, verdict};

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

    /// Leaves of this what is known to a server that was just started, and has looked at nothing
    /// yet.
    pub fn carry_over(&mut self) {
        let counts = &mut self.replicas;
        counts.unconfirmed += std::mem::take(&mut counts.ready);
    }
}

impl ReplicaCounts {
    /// What the phase is judged by.
    fn serving(self) -> u32 {
        self.ready + self.unconfirmed
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct ReplicaCounts {
    pub desired: u32,
    /// That take work now.
    pub ready: u32,
    /// That took work when they were last heard of, and may come back: the server was started, or
    /// their host's connection lost, less than a lease ago. The phase counts them as ready.
    #[serde(default)]
    pub unconfirmed: u32,
    /// Of the wanted revision, ready or not.
    pub updated: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Condition {
    pub kind: String,
    pub holds: bool,
    pub message: String,
}

words! {
    /// Where an agent stands.
    pub enum Phase("an agent's phase") {
        Pending = "Pending",
        Building = "Building",
        Starting = "Starting",
        Ready = "Ready",
        /// Some replicas serve, fewer than wanted.
        Degraded = "Degraded",
        Failed = "Failed",
        Suspended = "Suspended",
        Draining = "Draining",
        Deleted = "Deleted",
    }
}

words! {
    /// Why. A closed list, so that programs can decide by it.
    pub enum Reason("a reason") {
        BuildFailed = "BuildFailed",
        BuildCancelled = "BuildCancelled",
        BuildTimedOut = "BuildTimedOut",
        SourceUnavailable = "SourceUnavailable",
        PlanFailed = "PlanFailed",
        StartCommandMissing = "StartCommandMissing",
        StartFailed = "StartFailed",
        CrashLoop = "CrashLoop",
        /// The start command ended with code 0 although an agent should stay.
        ExitedEarly = "ExitedEarly",
        OutOfMemory = "OutOfMemory",
        /// The process runs, and its agent has not come.
        NotRegistered = "NotRegistered",
        /// The process runs, and its agent was connected and is not any more.
        Disconnected = "Disconnected",
        ProbeFailed = "ProbeFailed",
        Unschedulable = "Unschedulable",
        IsolationUnavailable = "IsolationUnavailable",
        HostLost = "HostLost",
        ShimLost = "ShimLost",
        StorageFull = "StorageFull",
        ScaledToZero = "ScaledToZero",
        RollingOut = "RollingOut",
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
    /// How long what was lost may take to come back.
    pub lease: Duration,
    /// Since when this server hears agents: which of them were connected before, it does not know.
    pub heard_since: Timestamp,
    /// Which hosts are away and since when, in words; what is said of a replica that is lost with
    /// one of them.
    pub away: &'a str,
    pub conditions: &'a [Condition],
}

/// A replica and what is known of it now.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaEvidence {
    pub replica: Replica,
    /// Whether its agent is connected.
    pub registered: bool,
    /// When the agent of its present process was last heard of: it was connected, and is not.
    pub lost_at: Option<Timestamp>,
    /// Whether its host is. `Awaited` also when the host is and the server was started a moment
    /// ago, so that the agent has not had the time to come back.
    pub contact: Contact,
}

impl ReplicaEvidence {
    /// Whether the replica takes work: it runs, its agent has registered over gRPC, and its probe
    /// (if it has one) passes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.registered && self.may_serve()
    }

    /// Whether nobody can say now if it takes work: it ran when it was last heard of, and it, or
    /// its host, has time to come back.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        !self.registered && self.contact == Contact::Awaited && self.may_serve()
    }

    /// Whether its process runs, and its agent is not connected.
    fn waits(&self) -> bool {
        self.replica.observed.phase == ReplicaPhase::Running && !self.registered
    }

    /// Whether only its probe keeps it from taking work.
    fn fails_its_probe(&self) -> bool {
        self.replica.want == Want::Run
            && self.replica.observed.phase == ReplicaPhase::Running
            && self.registered
            && self.replica.observed.probe_ok == Some(false)
    }

    fn may_serve(&self) -> bool {
        self.replica.want == Want::Run
            && self.replica.observed.phase == ReplicaPhase::Running
            && self.replica.observed.probe_ok != Some(false)
    }
}

/// Derives the status at `now`; `since` stays when neither phase nor reason changed.
///
/// What is not known counts as it was when it was last observed: after a server's start, and while
/// a host is away for a moment, an agent neither fails nor becomes better than it was.
#[must_use]
pub fn derive(evidence: &Evidence<'_>, previous: &Status, now: Timestamp) -> Status {
    let seen = Seen {
        evidence,
        previous,
        now,
        ready: which_are_ready(evidence, previous),
    };
    let counts = seen.count();
    let (phase, reason, message) = seen.judge(counts);
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

/// Of each replica whether it counts as ready. As many of those of which nothing is known do as
/// make up what was last observed, the oldest first.
fn which_are_ready(evidence: &Evidence<'_>, previous: &Status) -> Vec<bool> {
    let replicas = evidence.replicas;
    let mut ready: Vec<bool> = replicas.iter().map(ReplicaEvidence::is_ready).collect();
    let known = ready.iter().filter(|ready| **ready).count();
    let assumed = (previous.replicas.serving() as usize).saturating_sub(known);
    let unknown = ready
        .iter_mut()
        .zip(replicas)
        .filter(|(_, e)| e.is_unknown());
    unknown.take(assumed).for_each(|(ready, _)| *ready = true);
    ready
}

type Judgement = (Phase, Option<Reason>, String);

/// The evidence, with what it is taken to mean.
struct Seen<'a> {
    evidence: &'a Evidence<'a>,
    previous: &'a Status,
    now: Timestamp,
    /// Of each replica of the evidence, whether it counts as ready.
    ready: Vec<bool>,
}

impl Seen<'_> {
    fn replicas(&self) -> impl Iterator<Item = (&ReplicaEvidence, bool)> {
        self.evidence
            .replicas
            .iter()
            .zip(self.ready.iter().copied())
    }

    fn count(&self) -> ReplicaCounts {
        let updated = |e: &&ReplicaEvidence| {
            Some(e.replica.revision_number) == self.evidence.revision_number
                && e.replica.want == Want::Run
                && !e.replica.observed.phase.is_over()
        };
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let known = self.replicas().filter(|(e, _)| e.is_ready()).count();
        let counted = self.ready.iter().filter(|ready| **ready).count();
        ReplicaCounts {
            desired: self.evidence.desired,
            ready: number(known),
            unconfirmed: number(counted - known),
            updated: number(self.evidence.replicas.iter().filter(updated).count()),
        }
    }

    fn judge(&self, counts: ReplicaCounts) -> Judgement {
        let evidence = self.evidence;
        if evidence.deleting || evidence.suspended {
            let present = |e: &ReplicaEvidence| !e.replica.observed.phase.is_over();
            let phase = match (evidence.replicas.iter().any(present), evidence.deleting) {
                (true, _) => Phase::Draining,
                (false, true) => Phase::Deleted,
                (false, false) => Phase::Suspended,
            };
            return (phase, None, String::new());
        }
        let Some(number) = evidence.revision_number else {
            let message = "no source was deployed yet".to_owned();
            return (Phase::Pending, None, message);
        };
        if evidence.desired == 0 {
            let message = "0 replicas are wanted".to_owned();
            return (Phase::Ready, Some(Reason::ScaledToZero), message);
        }
        let updated_ready = self
            .replicas()
            .filter(|(e, ready)| *ready && e.replica.revision_number == number)
            .count();
        let complete = updated_ready >= evidence.desired as usize;
        match (complete, counts.serving(), self.trouble()) {
            (true, _, _) => (Phase::Ready, None, String::new()),
            (false, 0, Some((reason, message))) => (Phase::Failed, Some(reason), message),
            (false, 0, None) => self.in_progress(),
            (false, serving, None) if serving >= evidence.desired => (
                Phase::Ready,
                Some(Reason::RollingOut),
                format!("revision {number} is being rolled out"),
            ),
            (false, _, None) => {
                let restarting = self.restarting().map(|words| format!("; {words}"));
                let message = shortfall(counts) + &restarting.unwrap_or_default();
                (Phase::Degraded, None, message)
            }
            (false, _, Some((reason, message))) => (
                Phase::Degraded,
                Some(reason),
                format!("{}; {message}", shortfall(counts)),
            ),
        }
    }

    /// The worst thing that stands in the way of the wanted revision, if anything does.
    fn trouble(&self) -> Option<(Reason, String)> {
        let evidence = self.evidence;
        match evidence.unschedulable {
            Some(nowhere) if !nowhere.awaited => {
                let reason = match nowhere.isolation_only {
                    true => Reason::IsolationUnavailable,
                    false => Reason::Unschedulable,
                };
                return Some((reason, nowhere.words.clone()));
            }
            Some(_) if self.was_unschedulable() => return self.previous_trouble(),
            _ => {}
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
        self.replicas()
            .filter(|(e, ready)| !ready && e.replica.want == Want::Run)
            .filter_map(|(e, _)| {
                let (reason, message) = self.replica_trouble(e)?;
                Some((e.replica.revision_number, reason, message))
            })
            .max_by_key(|(number, ..)| *number)
            .map(|(_, reason, message)| (reason, message))
    }

    fn in_progress(&self) -> Judgement {
        let evidence = self.evidence;
        if let Some(build) = evidence.builds.iter().find(|b| !b.phase.is_terminal()) {
            let message = match build.phase {
                BuildPhase::Queued => "waiting for a host to begin the build".to_owned(),
                phase if build.message.is_empty() => phase.to_string(),
                phase => format!("{phase}: {}", build.message),
            };
            return (Phase::Building, None, message);
        }
        if evidence.replicas.is_empty() {
            let words = evidence.unschedulable.map(|nowhere| nowhere.words.clone());
            let words = words.unwrap_or_else(|| "waiting for a host".to_owned());
            return (Phase::Pending, None, words);
        }
        let restarting = self.restarting();
        if evidence.replicas.iter().any(|e| e.fails_its_probe()) {
            let words = "the process runs and its agent has registered, but its probe does not pass: its own log may say why";
            return (Phase::Starting, Some(Reason::ProbeFailed), words.to_owned());
        }
        let waiting = evidence.replicas.iter().filter(|e| e.waits());
        let Some(longest) =
            waiting.max_by_key(|e| (e.lost_at.is_some(), e.replica.revision_number))
        else {
            return (Phase::Starting, None, restarting.unwrap_or_default());
        };
        let (reason, mut message) = match longest.lost_at {
            Some(at) => (Reason::Disconnected, disconnected(at)),
            None => (Reason::NotRegistered, self.not_registered(longest)),
        };
        if let Some(words) = restarting {
            message = format!("{message}; {words}");
        }
        (Phase::Starting, Some(reason), message)
    }

    /// That a process runs whose agent has not come, and how long one has waited for it.
    fn not_registered(&self, evidence: &ReplicaEvidence) -> String {
        let server = self.evidence.heard_since;
        match evidence.replica.observed.started_at {
            Some(at) if at < server => format!(
                "the process runs, and its agent has not registered since this server was started at {server}"
            ),
            Some(at) => format!("the process runs since {at}, and its agent has not registered"),
            None => "the process runs, and its agent has not registered".to_owned(),
        }
    }

    /// What keeps a replica from taking work, if its host has said so, or it, or its host, has
    /// stayed away.
    fn replica_trouble(&self, evidence: &ReplicaEvidence) -> Option<(Reason, String)> {
        let observed = &evidence.replica.observed;
        if evidence.contact == Contact::Away && !observed.phase.is_over() {
            return Some((Reason::HostLost, self.evidence.away.to_owned()));
        }
        let message = match &observed.exit {
            Some(exit) if observed.message.is_empty() && !observed.phase.goes_on() => {
                exit.to_string()
            }
            _ => observed.message.clone(),
        };
        if let Some(reason) = observed.reason {
            return Some((reason, message));
        }
        let lost_at = evidence.lost_at.filter(|_| evidence.waits())?;
        let stays_away = self.now.since(lost_at) >= self.evidence.lease;
        stays_away.then(|| (Reason::Disconnected, disconnected(lost_at)))
    }

    /// How the process ended in whose place another one is being brought up.
    fn restarting(&self) -> Option<String> {
        let exits = self
            .replicas()
            .filter(|(e, ready)| !ready && e.replica.want == Want::Run)
            .map(|(e, _)| &e.replica.observed)
            .filter(|observed| !observed.phase.is_over())
            .filter_map(|observed| observed.exit.as_ref());
        let last = exits.max_by_key(|exit| exit.ended_at)?;
        Some(format!("restarted after: {last}"))
    }

    fn was_unschedulable(&self) -> bool {
        let reason = self.previous.reason;
        self.previous.observed_generation == self.evidence.generation
            && matches!(
                reason,
                Some(Reason::Unschedulable | Reason::IsolationUnavailable)
            )
    }

    fn previous_trouble(&self) -> Option<(Reason, String)> {
        let said = self.previous.message.as_str();
        let words = match self.previous.phase {
            // Without the shortfall, which is said anew.
            Phase::Degraded => said.split_once("; ").map_or(said, |(_, words)| words),
            _ => said,
        };
        Some((self.previous.reason?, words.to_owned()))
    }
}

fn disconnected(at: Timestamp) -> String {
    format!("the process runs, and its agent was last heard of at {at}")
}

fn shortfall(counts: ReplicaCounts) -> String {
    let ReplicaCounts { desired, ready, .. } = counts;
    match counts.unconfirmed {
        0 => format!("{ready} of {desired} replicas are ready"),
        n => format!("{ready} of {desired} replicas are ready, {n} more were"),
    }
}

#[cfg(test)]
mod tests;
