//! Rolling updates and scaling as a plan: which replicas to create, which to stop.

use crate::id::{ReplicaId, RevisionId};
use crate::replica::{ReplicaPhase, Want};
use crate::status::ReplicaEvidence;

/// Replicas beyond the wanted count while a new revision comes up.
const SURGE: u32 = 1;

/// What to change now. Empty when nothing is to be done; asking again later is always safe.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Steps {
    /// How many replicas of the wanted revision to create.
    pub create: u32,
    pub stop: Vec<ReplicaId>,
}

/// Plans the next step towards `desired` replicas of `revision`.
///
/// A ready replica of an older revision is stopped only once enough others are ready, so that at
/// no moment fewer than `desired` serve because of the update. Replicas that are lost or stopped by
/// themselves are replaced. One that its host has given up on keeps its place: another one would
/// fail alike, at once, and again; the next deployment replaces it.
#[must_use]
pub fn plan(desired: u32, revision: RevisionId, replicas: &[ReplicaEvidence]) -> Steps {
    let wanted = || replicas.iter().filter(|e| e.replica.want == Want::Run);
    let live: Vec<&ReplicaEvidence> = wanted().filter(|e| !is_gone(e)).collect();
    let (new, old): (Vec<_>, Vec<_>) = live
        .into_iter()
        .partition(|e| e.replica.revision == revision);
    let over = wanted().filter(|e| is_gone(e)).map(|e| e.replica.id);
    let mut stop: Vec<ReplicaId> = over.collect();
    let ready_new = ready(&new);
    stop.extend(surplus_old(desired, ready_new, &old));
    stop.extend(surplus_new(desired, &new));
    let room = desired
        .saturating_add(SURGE)
        .saturating_sub(count(&new) + count(&old));
    Steps {
        create: desired.saturating_sub(count(&new)).min(room),
        stop,
    }
}

fn is_gone(evidence: &ReplicaEvidence) -> bool {
    matches!(
        evidence.replica.observed.phase,
        ReplicaPhase::Stopped | ReplicaPhase::Lost
    )
}

/// Old replicas that may go: those that do not serve, and as many that do as new ones replace.
fn surplus_old(desired: u32, ready_new: u32, old: &[&ReplicaEvidence]) -> Vec<ReplicaId> {
    let (ready_old, idle): (Vec<&&ReplicaEvidence>, Vec<_>) =
        old.iter().partition(|e| e.is_ready());
    let may_go = (count(&ready_old) + ready_new).saturating_sub(desired) as usize;
    let served = ready_old.iter().take(may_go).map(|e| e.replica.id);
    idle.iter().map(|e| e.replica.id).chain(served).collect()
}

/// New replicas beyond the wanted count: the ones that do not serve first, then the youngest.
fn surplus_new(desired: u32, new: &[&ReplicaEvidence]) -> Vec<ReplicaId> {
    let surplus = count(new).saturating_sub(desired) as usize;
    let mut by_worth: Vec<&&ReplicaEvidence> = new.iter().collect();
    by_worth.sort_by_key(|e| (e.is_ready(), std::cmp::Reverse(e.replica.id)));
    by_worth
        .iter()
        .take(surplus)
        .map(|e| e.replica.id)
        .collect()
}

fn ready(replicas: &[&ReplicaEvidence]) -> u32 {
    u32::try_from(replicas.iter().filter(|e| e.is_ready()).count()).unwrap_or(u32::MAX)
}

fn count<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
