//! What one look at an agent changes, and how the agent is after it: rules alone. A [`Snapshot`]
//! goes in, [`Changes`] come out as data; whoever asked writes them and tells the hosts.

mod conditions;
mod place;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::agent::{Agent, Revision};
use crate::build::Build;
use crate::host::{Contact, Host};
use crate::id::{BuildId, HostId, ReplicaId};
use crate::placement::{Candidate, Load, Unschedulable};
use crate::replica::{Replica, ReplicaPhase, Want};
use crate::rollout;
use crate::status::{self, Evidence, ReplicaEvidence, Status};
use crate::time::Timestamp;

/// Everything that one look at an agent needs, as it was at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub agent: Agent,
    pub revision: Option<Revision>,
    /// Of the wanted revision.
    pub builds: Vec<Build>,
    /// Builds of earlier revisions that have not ended.
    pub outdated: Vec<Build>,
    /// Oldest first.
    pub replicas: Vec<ReplicaEvidence>,
    /// Replicas whose agents have tasks in hand, or may still be given one.
    pub busy: BTreeSet<ReplicaId>,
    /// Every host of the tenant, by name.
    pub hosts: Vec<HostEvidence>,
    /// How many dead replicas are kept for their logs.
    pub dead_kept: usize,
    /// How long what was lost may take to come back.
    pub lease: Duration,
    /// When this server was started.
    pub heard_since: Timestamp,
}

/// A host and what is known of it now.
#[derive(Debug, Clone, PartialEq)]
pub struct HostEvidence {
    pub host: Host,
    pub contact: Contact,
    /// Whether it was connected at all since the server was started.
    pub heard: bool,
    /// Needed only where [`Snapshot::wants_more`].
    pub load: Load,
}

impl HostEvidence {
    /// As the scheduler sees it.
    #[must_use]
    pub fn candidate(&self) -> Candidate<'_> {
        Candidate {
            host: &self.host,
            contact: self.contact,
            load: self.load,
        }
    }
}

/// What one look changes. Empty when nothing is to be done; looking again later is always safe.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changes {
    pub stop: Vec<ReplicaId>,
    /// Replicas that are given nothing further, and are looked at again once they have finished
    /// what they hold. What is stopped is drained too.
    pub drain: Vec<ReplicaId>,
    pub create: Vec<Replica>,
    pub build: Vec<Build>,
    pub cancel: Vec<BuildId>,
    /// Replicas that are over and whose logs are kept no longer.
    pub forget: Vec<ReplicaId>,
    /// The agent goes, with everything that is left of it.
    pub delete_agent: bool,
    /// Why a replica that is wanted was not placed; says something, changes nothing.
    pub unschedulable: Option<Unschedulable>,
}

impl Changes {
    /// Whether there is anything to be written.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.stop.is_empty()
            && self.create.is_empty()
            && self.build.is_empty()
            && self.cancel.is_empty()
            && self.forget.is_empty()
            && !self.delete_agent
    }
}

/// Decides what to change at `now`. `entropy` makes the ids of what is new.
#[must_use]
pub fn decide(
    snapshot: &Snapshot,
    now: Timestamp,
    entropy: &mut dyn FnMut() -> [u8; 10],
) -> Changes {
    let mut changes = Changes {
        cancel: snapshot.builds_to_cancel(),
        forget: snapshot.dead_beyond_those_kept(),
        ..Changes::default()
    };
    let Some(revision) = snapshot.wanted() else {
        snapshot.stop_everything(now, &mut changes);
        return changes;
    };
    let steps = snapshot.steps(revision);
    // Whether a replica serves that has time to come back is unknown, and that is no reason to
    // stop it.
    let unknown = |id: &ReplicaId| {
        let mut replicas = snapshot.replicas.iter();
        replicas.any(|e| e.replica.id == *id && e.is_unknown())
    };
    changes.stop = steps.stop.into_iter().filter(|id| !unknown(id)).collect();
    place::place(snapshot, revision, steps.create, now, entropy, &mut changes);
    changes
}

/// How the agent is at `now`, after `changes` were made.
#[must_use]
pub fn status(snapshot: &Snapshot, changes: &Changes, now: Timestamp) -> Status {
    let after = snapshot.after(changes);
    let agent = &after.agent;
    let nowhere = changes.unschedulable.as_ref();
    let evidence = Evidence {
        generation: agent.generation,
        desired: match after.is_wanted() {
            true => agent.replicas,
            false => 0,
        },
        suspended: agent.suspended,
        deleting: agent.delete.is_some(),
        revision_number: after.revision.as_ref().map(|r| r.number),
        builds: &after.builds,
        replicas: &after.replicas,
        unschedulable: nowhere,
        lease: after.lease,
        heard_since: after.heard_since,
        away: &conditions::away(&after),
        conditions: &conditions::conditions(&after, nowhere),
    };
    status::derive(&evidence, &agent.status, now)
}

impl Snapshot {
    fn is_wanted(&self) -> bool {
        self.agent.delete.is_none() && !self.agent.suspended
    }

    /// The revision that is to run, if any is.
    fn wanted(&self) -> Option<&Revision> {
        self.revision.as_ref().filter(|_| self.is_wanted())
    }

    /// Whether replicas must be placed, so that it matters what the hosts have in hand.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        self.wanted()
            .is_some_and(|revision| self.steps(revision).create > 0)
    }

    /// The next steps towards `revision`. A replica that waits for a build which is there no more
    /// would wait for ever: it gives way to one that has its build made.
    fn steps(&self, revision: &Revision) -> rollout::Steps {
        let (waiting, live): (Vec<ReplicaEvidence>, Vec<_>) = self
            .replicas
            .iter()
            .cloned()
            .partition(|e| self.waits_in_vain(revision, &e.replica));
        let mut steps = rollout::plan(self.agent.replicas, revision.id, &live);
        steps.stop.extend(waiting.iter().map(|e| e.replica.id));
        steps
    }

    fn waits_in_vain(&self, revision: &Revision, replica: &Replica) -> bool {
        let unstarted = [ReplicaPhase::Pending, ReplicaPhase::Preparing];
        replica.want == Want::Run
            && replica.revision == revision.id
            && unstarted.contains(&replica.observed.phase)
            && !self.builds.iter().any(|build| build.id == replica.build)
    }

    /// Stops every replica. While the agent is being deleted, those with tasks in hand may finish
    /// them until the drain is over.
    fn stop_everything(&self, now: Timestamp, changes: &mut Changes) {
        let deletion = self.agent.delete;
        let late = deletion.is_none_or(|deletion| deletion.drain_until <= now);
        let running = self.replicas.iter().map(|e| &e.replica);
        let running = running.filter(|replica| replica.want == Want::Run);
        (changes.drain, changes.stop) = running
            .map(|replica| replica.id)
            .partition(|id| self.busy.contains(id) && !late);
        changes.delete_agent = deletion.is_some() && self.nothing_runs();
        if changes.delete_agent {
            changes.forget = self.replicas.iter().map(|e| e.replica.id).collect();
        }
    }

    fn nothing_runs(&self) -> bool {
        self.replicas.iter().all(|e| {
            let never_seen =
                e.replica.observed.phase == ReplicaPhase::Pending && e.replica.want == Want::Stop;
            e.replica.observed.phase.is_over() || never_seen
        })
    }

    /// Oldest first.
    fn dead_beyond_those_kept(&self) -> Vec<ReplicaId> {
        let replicas = self.replicas.iter().map(|e| &e.replica);
        let dead = replicas.filter(|r| r.want == Want::Stop && r.observed.phase.is_over());
        let mut dead: Vec<ReplicaId> = dead.map(|replica| replica.id).collect();
        dead.truncate(dead.len().saturating_sub(self.dead_kept));
        dead
    }

    /// Builds that nobody wants any more. A build of the same key that another agent waits for is
    /// made anew for it.
    fn builds_to_cancel(&self) -> Vec<BuildId> {
        let unwanted = self.agent.delete.is_some();
        let current = self
            .builds
            .iter()
            .filter(|b| unwanted && b.agent == self.agent.id && !b.phase.is_terminal());
        self.outdated
            .iter()
            .chain(current)
            .filter(|b| !b.cancel_requested)
            .map(|b| b.id)
            .collect()
    }

    /// The hosts that should be sent anew what they are to do, once `changes` are made.
    #[must_use]
    pub fn hosts_concerned(&self, changes: &Changes) -> BTreeSet<HostId> {
        let replicas = self.replicas.iter().map(|e| &e.replica);
        let ended =
            replicas.filter(|r| changes.stop.contains(&r.id) || changes.forget.contains(&r.id));
        let builds = self.outdated.iter().chain(&self.builds);
        let cancelled = builds.filter(|build| changes.cancel.contains(&build.id));
        ended
            .chain(&changes.create)
            .map(|replica| replica.host)
            .chain(cancelled.chain(&changes.build).map(|build| build.host))
            .collect()
    }

    fn after(&self, changes: &Changes) -> Self {
        let mut after = self.clone();
        for evidence in &mut after.replicas {
            if changes.stop.contains(&evidence.replica.id) {
                evidence.replica.want = Want::Stop;
            }
        }
        let stays = |e: &ReplicaEvidence| !changes.forget.contains(&e.replica.id);
        after.replicas.retain(stays);
        let fresh = changes.create.iter().cloned();
        after.replicas.extend(fresh.map(|replica| ReplicaEvidence {
            replica,
            registered: false,
            lost_at: None,
            contact: Contact::Connected,
        }));
        after.builds.extend(changes.build.iter().cloned());
        after
    }
}

#[cfg(test)]
mod tests;
