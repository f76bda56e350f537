//! What to do next: pure functions from what is wanted and what is so to actions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parallax_core::backoff;
use parallax_core::id::ReplicaId;
use parallax_core::time::Timestamp;

/// What is wanted of one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) run: bool,
    /// Between SIGTERM and SIGKILL.
    pub(crate) grace: Duration,
    /// Whether a replica whose process is gone may be started. False in a host that has just been
    /// started, for a replica that was stopped on purpose, until a server asks for it; and in a
    /// host that is stopping.
    pub(crate) may_start: bool,
}

/// What is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Actual {
    pub(crate) process: Process,
    /// Whether the revision is prepared on this host.
    pub(crate) prepared: bool,
    /// Whether this host must not run the replica at all.
    pub(crate) refused: bool,
    /// Whether the process is to give way to a new one, now.
    pub(crate) outdated: bool,
    /// Crashes in a row.
    pub(crate) crashes: u32,
    /// When the last process ended.
    pub(crate) ended_at: Option<Timestamp>,
    /// Whether the end of the last process was recorded; true before the first.
    pub(crate) end_recorded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    None,
    Alive,
    /// It was asked to stop.
    Stopping,
}

/// What to do, or what to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start a new incarnation.
    Start,
    /// Ask the shim to stop its replica.
    Stop {
        grace: Duration,
    },
    /// Give the process's cgroups back.
    Release,
    Report(State),
}

/// What to report while nothing else happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Waiting for the revision to be prepared.
    Preparing,
    Running,
    /// Waiting for the time of the next start.
    Backoff {
        until: Timestamp,
    },
    Stopping,
    Stopped,
    /// Stopped, and nobody recorded how.
    Lost,
    /// This host must not run it.
    Refused,
    /// As it was when the host started; no server has asked for anything yet.
    Idle,
}

/// The next steps of one replica. Asking again is always safe: while nothing changes, the answer
/// only reports.
pub(crate) fn reconcile(wanted: Wanted, actual: &Actual, now: Timestamp) -> Vec<Action> {
    match (wanted.run, actual.process) {
        (true, Process::Alive) if !actual.outdated => vec![Action::Report(State::Running)],
        (_, Process::Stopping) => vec![Action::Report(State::Stopping)],
        (_, Process::Alive) => vec![
            Action::Report(State::Stopping),
            Action::Stop {
                grace: wanted.grace,
            },
        ],
        (true, Process::None) => vec![start(wanted, actual, now)],
        (false, Process::None) => {
            let said = if actual.end_recorded {
                State::Stopped
            } else {
                State::Lost
            };
            vec![Action::Release, Action::Report(said)]
        }
    }
}

fn start(wanted: Wanted, actual: &Actual, now: Timestamp) -> Action {
    if actual.refused {
        return Action::Report(State::Refused);
    }
    if !wanted.may_start {
        return Action::Report(State::Idle);
    }
    if !actual.prepared {
        return Action::Report(State::Preparing);
    }
    let until = actual
        .ended_at
        .map(|ended| ended.plus(backoff::restart_delay(actual.crashes)));
    match until {
        Some(until) if until > now => Action::Report(State::Backoff { until }),
        _ => Action::Start,
    }
}

/// A change to the set of replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SetChange {
    /// A replica that was wanted no longer is: it is absent from a complete set.
    Stop(ReplicaId),
    /// Its records and files may go, once it has ended.
    Forget(ReplicaId),
}

/// What a set of desired replicas means for those that it does not name. `known` says of each
/// replica here whether it is wanted to run.
pub(crate) fn reconcile_set(
    known: &BTreeMap<ReplicaId, bool>,
    named: &BTreeSet<ReplicaId>,
    complete: bool,
    forget: &BTreeSet<ReplicaId>,
) -> Vec<SetChange> {
    let mut changes = Vec::new();
    for (id, runs) in known {
        if named.contains(id) {
            continue;
        }
        if *runs && (complete || forget.contains(id)) {
            changes.push(SetChange::Stop(*id));
        }
        if forget.contains(id) {
            changes.push(SetChange::Forget(*id));
        }
    }
    changes
}

#[cfg(test)]
mod tests;
