//! Everything that one look at an agent needs, read at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use parallax_core::agent::{Agent, Revision};
use parallax_core::build::Build;
use parallax_core::error::Result;
use parallax_core::host::{Contact, Host};
use parallax_core::id::{AgentId, BuildId, HostId, ReplicaId, RevisionId, TenantId};
use parallax_core::manifest::Resources;
use parallax_core::replica::{Replica, ReplicaPhase, Want};
use parallax_core::rollout;
use parallax_core::status::ReplicaEvidence;
use parallax_store::{Page, agents, builds, hosts, replicas, revisions};

use crate::app::App;

/// Hosts that are considered for placement.
const MOST_HOSTS: u32 = 1000;

pub(super) struct Snapshot {
    pub agent: Agent,
    pub revision: Option<Revision>,
    /// Of the wanted revision.
    pub builds: Vec<Build>,
    pub replicas: Vec<ReplicaEvidence>,
    pub hosts: Vec<Host>,
    pub load: HashMap<HostId, Load>,
    /// Builds of earlier revisions that have not ended.
    outdated: Vec<Build>,
}

/// What is reserved on a host.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    pub replicas: u32,
    pub cpu_millis: u64,
    pub memory_bytes: u64,
}

impl Load {
    pub(super) fn add(&mut self, resources: &Resources) {
        self.replicas += 1;
        self.cpu_millis += resources.cpu.map_or(0, |cpu| cpu.get());
        self.memory_bytes += resources.memory.map_or(0, |memory| memory.get());
    }
}

impl Snapshot {
    pub(super) async fn read(app: &App, tenant: TenantId, id: AgentId) -> Result<Option<Self>> {
        let mut tx = app.store.read(tenant).await?;
        let Some(agent) = agents::get(&mut tx, id).await? else {
            return Ok(None);
        };
        let revision = match agent.revision {
            Some(revision) => revisions::get(&mut tx, revision).await?,
            None => None,
        };
        let builds = match &revision {
            Some(revision) => builds::list_for_key(&mut tx, &revision.build_key).await?,
            None => Vec::new(),
        };
        let mut outdated = builds::list_for_agent(&mut tx, id, 50).await?;
        outdated
            .retain(|b| !b.phase.is_terminal() && !builds.iter().any(|current| current.id == b.id));
        let rows = replicas::list_for_agent(&mut tx, id).await?;
        let hosts = hosts::list(&mut tx, &Page::first(MOST_HOSTS)).await?.items;
        drop(tx);
        let group = app.directory.find(tenant, &agent.name);
        let replicas = rows
            .into_iter()
            .map(|replica| {
                let registered = group.as_ref().is_some_and(|g| g.is_registered(replica.id));
                let contact = match app.contact(replica.host) {
                    // Its agent has as long to come back to a server as its host has.
                    Contact::Connected
                        if app.has_just_started() && replica.created_at < app.started_at =>
                    {
                        Contact::Awaited
                    }
                    contact => contact,
                };
                ReplicaEvidence {
                    replica,
                    registered,
                    contact,
                }
            })
            .collect();
        let mut snapshot = Self {
            agent,
            revision,
            builds,
            replicas,
            hosts,
            load: HashMap::new(),
            outdated,
        };
        if snapshot.wants_more() {
            snapshot.load = read_load(app, tenant, &snapshot.hosts).await?;
        }
        Ok(Some(snapshot))
    }

    /// Whether replicas must be placed, so that it matters what the hosts have in hand.
    fn wants_more(&self) -> bool {
        let wanted = self.revision.as_ref().filter(|_| !self.agent.suspended);
        wanted.is_some_and(|revision| self.steps(revision).create > 0)
    }

    /// The next steps towards `revision`. A replica that waits for a build which is there no more
    /// would wait for ever: it gives way to one that has its build made.
    pub(super) fn steps(&self, revision: &Revision) -> rollout::Steps {
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

    /// Replicas to stop when none is wanted. While an agent is being deleted, those with tasks in
    /// hand are left alone until the drain is over.
    pub(super) fn stoppable(&self, app: &App) -> Vec<ReplicaId> {
        let now = app.clock.now();
        let late = self
            .agent
            .delete
            .is_none_or(|deletion| deletion.drain_until <= now);
        let group = app.directory.find(self.agent.tenant, &self.agent.name);
        let busy = |id: ReplicaId| {
            group.as_ref().is_some_and(|group| {
                let slots = group.slots_of_replica(id, None);
                // Every one of them is to drain, whatever the first still holds.
                slots.iter().map(|slot| group.drain(*slot)).sum::<usize>() > 0
            })
        };
        let running = self.replicas.iter().filter(|e| e.replica.want == Want::Run);
        let stop: Vec<ReplicaId> = running
            .map(|e| e.replica.id)
            .filter(|id| !busy(*id) || late)
            .collect();
        if self
            .replicas
            .iter()
            .any(|e| e.replica.want == Want::Run && !stop.contains(&e.replica.id))
        {
            // Looked at again when the drain ends, should no result come before.
            app.wake_later(self.agent.tenant, self.agent.id);
        }
        stop
    }

    pub(super) fn nothing_runs(&self) -> bool {
        self.replicas.iter().all(|e| {
            let never_seen =
                e.replica.observed.phase == ReplicaPhase::Pending && e.replica.want == Want::Stop;
            e.replica.observed.phase.is_over() || never_seen
        })
    }

    /// Dead replicas beyond those whose logs are kept, oldest first.
    pub(super) fn expired_dead(&self, kept: usize) -> Vec<ReplicaId> {
        let dead = |e: &&ReplicaEvidence| {
            e.replica.want == Want::Stop && e.replica.observed.phase.is_over()
        };
        let dead: Vec<ReplicaId> = self
            .replicas
            .iter()
            .filter(dead)
            .map(|e| e.replica.id)
            .collect();
        let surplus = dead.len().saturating_sub(kept);
        dead[..surplus].to_vec()
    }

    /// Builds that nobody wants any more. A build of the same key that another agent waits for is
    /// made anew for it.
    pub(super) fn builds_to_cancel(&self) -> Vec<BuildId> {
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

    pub(super) fn builds_of(&self, ids: &[BuildId]) -> impl Iterator<Item = &Build> {
        self.outdated
            .iter()
            .chain(&self.builds)
            .filter(|b| ids.contains(&b.id))
    }

    /// Where these replicas are.
    pub(super) fn places_of(&self, ids: &[ReplicaId]) -> impl Iterator<Item = (HostId, ReplicaId)> {
        self.replicas
            .iter()
            .filter(|e| ids.contains(&e.replica.id))
            .map(|e| (e.replica.host, e.replica.id))
    }

    /// Replicas of which nobody can say now whether they serve.
    pub(super) fn unknown(&self) -> Vec<ReplicaId> {
        let unknown = self.replicas.iter().filter(|e| e.is_unknown());
        unknown.map(|e| e.replica.id).collect()
    }

    /// The snapshot after a decision was written.
    pub(super) fn apply(
        &mut self,
        stop: Vec<ReplicaId>,
        create: Vec<Replica>,
        build: Vec<Build>,
        deleted: &[ReplicaId],
    ) {
        for evidence in &mut self.replicas {
            if stop.contains(&evidence.replica.id) {
                evidence.replica.want = Want::Stop;
            }
        }
        self.replicas.retain(|e| !deleted.contains(&e.replica.id));
        let fresh = create.into_iter().map(|replica| ReplicaEvidence {
            replica,
            registered: false,
            contact: Contact::Connected,
        });
        self.replicas.extend(fresh);
        self.builds.extend(build);
    }
}

/// What is reserved on each host, by the replicas of all agents.
async fn read_load(app: &App, tenant: TenantId, hosts: &[Host]) -> Result<HashMap<HostId, Load>> {
    let mut placed = Vec::new();
    let mut system = app.store.system_read().await?;
    for host in hosts {
        placed.extend(replicas::list_for_host(&mut system, host.id).await?);
    }
    drop(system);
    let mut tx = app.store.read(tenant).await?;
    let mut load: HashMap<HostId, Load> = HashMap::new();
    let mut specs: HashMap<RevisionId, Resources> = HashMap::new();
    for row in placed
        .iter()
        .filter(|row| row.want == Want::Run && !row.observed.phase.is_over())
    {
        let resources = match specs.entry(row.revision) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let found = revisions::get(&mut tx, row.revision).await?;
                place.insert(found.map(|r| r.spec.resources).unwrap_or_default())
            }
        };
        load.entry(row.host).or_default().add(resources);
    }
    Ok(load)
}
