//! What a host says of a replica: only what it has seen.

use parallax_core::replica::{Exit, ReplicaPhase};
use parallax_core::status::Reason;
use parallax_core::time::Timestamp;
use parallax_proto::v1::{ExitRecord, ObservedReplica};
use parallax_shim::record::StateRecord;

use super::actor::Actor;
use crate::reconcile::State;

/// The observation of a replica as it is now.
pub(super) fn observe(actor: &Actor) -> ObservedReplica {
    let running = actor.running.as_ref();
    let last = actor.progress.last.as_ref();
    let (phase, reason, message) = words(actor);
    let alive = running.is_some();
    ObservedReplica {
        replica_id: actor.orders().assignment.replica.to_string(),
        tenant_id: actor.orders().assignment.tenant.to_string(),
        incarnation: actor.incarnation,
        phase: phase.as_str().to_owned(),
        reason: reason
            .map(|reason| reason.as_str().to_owned())
            .unwrap_or_default(),
        message,
        exit: last
            .filter(|_| !alive)
            .and_then(|last| last.exit.as_ref())
            .map(exit),
        restarts: actor.progress.restarts,
        started_unix_us: running.map_or(0, |running| started(&running.state).unix_micros()),
        cpu_ns: actor.usage.cpu_ns,
        memory_bytes: actor.usage.memory_bytes,
        probe_ok: running
            .and_then(|running| running.probe.as_ref())
            .map(|probe| probe.result().unwrap_or(false)),
        pid: running.map_or(0, |running| running.state.child_pid),
        isolation: actor
            .context()
            .sandbox
            .words(&actor.context().limiter.word()),
    }
}

/// When the command of a shim was executed.
pub(super) fn started(state: &StateRecord) -> Timestamp {
    Timestamp::from_unix_micros(i64::try_from(state.started_unix_us).unwrap_or(i64::MAX))
}

fn words(actor: &Actor) -> (ReplicaPhase, Option<Reason>, String) {
    let last = actor.progress.last.as_ref();
    let reason = last.and_then(|last| last.reason);
    let message = || last.map(|last| last.message.clone()).unwrap_or_default();
    let told = match actor.state() {
        None => (ReplicaPhase::Starting, None, String::new()),
        Some(State::Preparing) => {
            let build = actor.orders().assignment.build;
            let words = format!("waiting until {build} is prepared on this host");
            (ReplicaPhase::Preparing, None, words)
        }
        Some(State::Running) => (ReplicaPhase::Running, None, String::new()),
        // A shim that was lost leaves no end to report: the reason says so, and the replica goes
        // on. `Lost` as a phase is final and would make the control plane replace it.
        Some(State::Backoff { .. }) => (ReplicaPhase::Backoff, reason, message()),
        Some(State::Stopping) => (ReplicaPhase::Stopping, None, String::new()),
        Some(State::Stopped | State::Idle) => (ReplicaPhase::Stopped, None, message()),
        Some(State::Lost) => (ReplicaPhase::Lost, Some(Reason::ShimLost), message()),
        Some(State::Refused) => {
            let words = actor.orders().refusal.clone().unwrap_or_default();
            (
                ReplicaPhase::Failed,
                Some(Reason::IsolationUnavailable),
                words,
            )
        }
    };
    match actor.trouble() {
        Some((reason, words)) => (told.0, Some(*reason), words.clone()),
        None => told,
    }
}

fn exit(exit: &Exit) -> ExitRecord {
    ExitRecord {
        code: exit.code,
        signal: exit.signal,
        out_of_memory: exit.out_of_memory,
        ended_unix_us: exit.ended_at.unix_micros(),
        last_log_line: exit.last_log_line.clone(),
    }
}
