//! From what is wanted of an agent to replicas and builds on hosts, one step at a time.
//!
//! `core::rollout` and `core::placement` plan; this reads, asks them, and writes the answer.

mod changes;
mod conditions;
mod dirty;
mod snapshot;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parallax_core::agent::Revision;
use parallax_core::build::{Build, BuildPhase};
use parallax_core::error::{Error, Result};
use parallax_core::id::{AgentId, BuildId, HostId, ReplicaId, TenantId};
use parallax_core::placement::{self, Candidate, Unschedulable};
use parallax_core::replica::{Observation, Replica, Want};
use parallax_core::status::{self, Evidence, Status};
use parallax_store::{agents, events};

use crate::app::App;
use crate::app::events::agent_event;
use crate::clock::random;

use changes::Changes;
pub(crate) use dirty::Dirty;
use snapshot::Snapshot;

/// A look at every agent without a signal, should one have been missed.
const EVERYTHING_EVERY: Duration = Duration::from_secs(10);

/// Reconciles until the server stops.
pub(crate) async fn run(app: Arc<App>) {
    let mut everything = tokio::time::interval(EVERYTHING_EVERY);
    let lease_end = app.started + app.limits.lease_ttl;
    let mut carries_over = true;
    loop {
        let all = tokio::select! {
            () = app.dirty.wait() => false,
            _ = everything.tick() => mark_everything(&app).await,
            // What is carried over from before this server's start is so until now, and not longer.
            () = tokio::time::sleep_until(lease_end), if carries_over => {
                carries_over = false;
                mark_everything(&app).await
            }
            () = app.shutdown.cancelled() => return,
        };
        let mut failed = 0;
        for (tenant, agent) in app.dirty.take() {
            if let Err(error) = reconcile(&app, tenant, agent).await {
                failed += 1;
                tracing::warn!(error = &error as &dyn std::error::Error, source = ?error.source, %agent, "cannot reconcile an agent; the next round tries again");
            }
        }
        if all && failed == 0 {
            app.looked_at_all.store(true, Ordering::Release);
        }
    }
}

/// Whether every agent was marked.
async fn mark_everything(app: &App) -> bool {
    let listed = async {
        let mut tx = app.store.system_read().await?;
        agents::ids_of_all(&mut tx).await
    };
    match listed.await {
        Ok(all) => {
            all.iter()
                .for_each(|(tenant, agent)| app.dirty.mark(*tenant, *agent));
            true
        }
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot list agents"
            );
            false
        }
    }
}

/// What one look decides; written in one transaction.
#[derive(Debug, Default)]
struct Decision {
    stop: Vec<ReplicaId>,
    create: Vec<Replica>,
    build: Vec<Build>,
    delete_replicas: Vec<ReplicaId>,
    delete_agent: bool,
    unschedulable: Option<Unschedulable>,
}

/// Takes one agent one step further.
///
/// # Errors
/// Whatever the store says; nothing is half done.
pub(crate) async fn reconcile(app: &Arc<App>, tenant: TenantId, agent: AgentId) -> Result<()> {
    let Some(mut snapshot) = Snapshot::read(app, tenant, agent).await? else {
        return Ok(());
    };
    let decision = decide(app, &snapshot);
    let Some(hosts) = write(app, &snapshot, &decision).await? else {
        app.dirty.mark(tenant, agent);
        return Ok(());
    };
    drain_stopped(app, &snapshot, &decision);
    for (host, replica) in snapshot.places_of(&decision.delete_replicas) {
        app.hosts.forget_replicas(host, [replica]);
        app.hosts.forget_usage(replica);
    }
    for host in hosts {
        app.hosts.refresh(host);
    }
    if decision.delete_agent {
        return Ok(());
    }
    snapshot.apply(
        decision.stop,
        decision.create,
        decision.build,
        &decision.delete_replicas,
    );
    write_status(app, &snapshot, decision.unschedulable.as_ref()).await
}

fn decide(app: &App, snapshot: &Snapshot) -> Decision {
    let mut decision = Decision {
        delete_replicas: snapshot.expired_dead(app.limits.dead_replicas_kept),
        ..Decision::default()
    };
    let agent = &snapshot.agent;
    let wanted = if agent.delete.is_some() || agent.suspended {
        None
    } else {
        snapshot.revision.as_ref()
    };
    let Some(revision) = wanted else {
        decision.stop = snapshot.stoppable(app);
        decision.delete_agent = agent.delete.is_some() && snapshot.nothing_runs();
        if decision.delete_agent {
            decision.delete_replicas = snapshot.replicas.iter().map(|e| e.replica.id).collect();
        }
        return decision;
    };
    let steps = snapshot.steps(revision);
    decision.stop = steps.stop;
    // Whether a replica serves that has time to come back is unknown, and that is no reason to
    // stop it.
    let unknown = snapshot.unknown();
    decision.stop.retain(|id| !unknown.contains(id));
    place(app, snapshot, revision, steps.create, &mut decision);
    decision
}

/// Finds hosts for new replicas; where the revision is not prepared yet, that comes first.
fn place(
    app: &App,
    snapshot: &Snapshot,
    revision: &Revision,
    create: u32,
    decision: &mut Decision,
) {
    let mut assigned = snapshot.load.clone();
    for _ in 0..create {
        let candidates: Vec<Candidate<'_>> = snapshot
            .hosts
            .iter()
            .map(|host| {
                let load = assigned.get(&host.id).copied().unwrap_or_default();
                Candidate {
                    host,
                    contact: app.contact(host.id),
                    assigned: load.replicas,
                    cpu_reserved: load.cpu_millis,
                    memory_reserved: load.memory_bytes,
                }
            })
            .collect();
        let spec = &revision.spec;
        let host = match placement::choose(&candidates, &spec.resources, spec.isolation) {
            Ok(host) => host,
            Err(nowhere) => {
                decision.unschedulable = Some(nowhere);
                return;
            }
        };
        assigned
            .entry(host)
            .or_default()
            .add(&revision.spec.resources);
        prepare_or_create(app, snapshot, revision, host, decision);
    }
}

fn prepare_or_create(
    app: &App,
    snapshot: &Snapshot,
    revision: &Revision,
    host: HostId,
    decision: &mut Decision,
) {
    let now = app.clock.now();
    let known = snapshot
        .builds
        .iter()
        .chain(&decision.build)
        .find(|build| build.host == host);
    match known {
        Some(build) if build.phase == BuildPhase::Succeeded => decision.create.push(Replica {
            tenant: snapshot.agent.tenant,
            id: ReplicaId::new(now, random()),
            agent: snapshot.agent.id,
            revision: revision.id,
            revision_number: revision.number,
            host,
            build: build.id,
            want: Want::Run,
            observed: Observation::nothing_yet(),
            created_at: now,
            updated_at: now,
        }),
        // Under way, or failed: a failed build is not tried again by itself.
        Some(_) => {}
        None => decision.build.push(Build {
            tenant: snapshot.agent.tenant,
            id: BuildId::new(now, random()),
            agent: snapshot.agent.id,
            agent_name: snapshot.agent.name.clone(),
            host,
            key: revision.build_key.clone(),
            source_digest: revision.source_digest.clone(),
            source_bytes: revision.source_bytes,
            spec: revision.spec.build(),
            phase: BuildPhase::Queued,
            reason: None,
            message: String::new(),
            plan_json: None,
            cached: false,
            cancel_requested: false,
            created_at: now,
            started_at: None,
            ended_at: None,
        }),
    }
}

/// Writes a decision; answers the hosts that it concerns. `None` when what it rests on is so no
/// more: then nothing is written, and the agent has to be looked at again.
async fn write(app: &App, snapshot: &Snapshot, decision: &Decision) -> Result<Option<Vec<HostId>>> {
    let changes = Changes {
        agent: snapshot.agent.id,
        agent_name: snapshot.agent.name.to_string(),
        stop: decision.stop.clone(),
        create: decision.create.clone(),
        build: decision.build.clone(),
        delete_replicas: decision.delete_replicas.clone(),
        cancel: snapshot.builds_to_cancel(),
        delete_agent: decision.delete_agent,
    };
    if changes.is_nothing() {
        return Ok(Some(Vec::new()));
    }
    let mut hosts: Vec<HostId> = snapshot
        .places_of(&changes.stop)
        .chain(snapshot.places_of(&changes.delete_replicas))
        .map(|(host, _)| host)
        .collect();
    hosts.extend(changes.create.iter().map(|r| r.host));
    hosts.extend(changes.build.iter().map(|b| b.host));
    hosts.extend(snapshot.builds_of(&changes.cancel).map(|b| b.host));
    hosts.sort_unstable();
    hosts.dedup();
    let now = app.clock.now();
    let tenant = snapshot.agent.tenant;
    let written = app.store.write(tenant, changes, move |tx, changes| {
        Box::pin(changes.write(tx, now))
    });
    Ok(written.await?.then_some(hosts))
}

/// Sends nothing further to replicas that are about to stop; what they have, they may finish.
fn drain_stopped(app: &App, snapshot: &Snapshot, decision: &Decision) {
    let group = app
        .directory
        .find(snapshot.agent.tenant, &snapshot.agent.name);
    let Some(group) = group else { return };
    for id in &decision.stop {
        for slot in group.slots_of_replica(*id, None) {
            group.drain(slot);
        }
    }
}

async fn write_status(
    app: &App,
    snapshot: &Snapshot,
    unschedulable: Option<&Unschedulable>,
) -> Result<()> {
    let conditions = conditions::conditions(app, snapshot, unschedulable);
    let away = conditions::away(app, snapshot);
    let agent = &snapshot.agent;
    let evidence = Evidence {
        generation: agent.generation,
        desired: if agent.suspended || agent.delete.is_some() {
            0
        } else {
            agent.replicas
        },
        suspended: agent.suspended,
        deleting: agent.delete.is_some(),
        revision_number: snapshot.revision.as_ref().map(|r| r.number),
        builds: &snapshot.builds,
        replicas: &snapshot.replicas,
        unschedulable,
        away: &away,
        conditions: &conditions,
    };
    let now = app.clock.now();
    let fresh = status::derive(&evidence, &agent.status, now);
    if fresh == agent.status {
        return Ok(());
    }
    let announced = (fresh.phase, fresh.reason) != (agent.status.phase, agent.status.reason);
    let given = (agent.id, fresh);
    let written = app
        .store
        .write(agent.tenant, given, move |tx, (id, fresh)| {
            Box::pin(async move {
                agents::set_status(tx, *id, fresh, now).await?;
                if announced {
                    events::append(tx, &status_event(*id, fresh, now)).await?;
                }
                Ok::<_, Error>(())
            })
        });
    written.await
}

fn status_event(
    id: AgentId,
    status: &Status,
    now: parallax_core::time::Timestamp,
) -> events::NewEvent {
    let reason = status
        .reason
        .map_or_else(String::new, |r| format!(" ({r})"));
    let message = format!("{}{reason} {}", status.phase, status.message);
    agent_event(now, id, "phase_changed", message.trim_end(), status)
}

#[cfg(test)]
mod tests;
