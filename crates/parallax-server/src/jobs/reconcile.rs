//! From what is wanted of an agent to replicas and builds on hosts, one step at a time.
//!
//! `core::reconcile` decides; this reads what it decides by, writes the answer, and tells agents
//! and hosts of it.

mod changes;
mod snapshot;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parallax_core::agent::Agent;
use parallax_core::error::{Error, Result};
use parallax_core::id::{AgentId, TenantId};
use parallax_core::reconcile::{self as rules, Changes, Snapshot};
use parallax_core::status::Status;
use parallax_store::{agents, events};

use crate::app::App;
use crate::app::events::agent_event;
use crate::clock::random;

use changes::Writing;

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

/// Takes one agent one step further.
///
/// # Errors
/// Whatever the store says; nothing is half done.
pub(crate) async fn reconcile(app: &Arc<App>, tenant: TenantId, agent: AgentId) -> Result<()> {
    let Some(snapshot) = snapshot::read(app, tenant, agent).await? else {
        return Ok(());
    };
    let changes = rules::decide(&snapshot, app.clock.now(), &mut random);
    if !write(app, &snapshot, &changes).await? {
        app.dirty.mark(tenant, agent);
        return Ok(());
    }
    tell(app, &snapshot, &changes);
    if changes.delete_agent {
        return Ok(());
    }
    write_status(app, &snapshot, &changes).await
}

/// Writes what was decided; `false` when it no longer fits what is there.
async fn write(app: &App, snapshot: &Snapshot, changes: &Changes) -> Result<bool> {
    if changes.is_nothing() {
        return Ok(true);
    }
    let now = app.clock.now();
    let writing = Writing::of(&snapshot.agent, changes);
    let written = app
        .store
        .write(snapshot.agent.tenant, writing, move |tx, writing| {
            Box::pin(writing.write(tx, now))
        });
    written.await
}

/// Tells agents and hosts what was written.
fn tell(app: &App, snapshot: &Snapshot, changes: &Changes) {
    drain(app, &snapshot.agent, changes);
    for replica in snapshot.replicas.iter().map(|e| &e.replica) {
        if changes.forget.contains(&replica.id) {
            app.hosts.forget_replicas(replica.host, [replica.id]);
            app.hosts.forget_usage(replica.id);
        }
    }
    for host in snapshot.hosts_concerned(changes) {
        app.hosts.refresh(host);
    }
}

/// Sends nothing further to replicas that stop now or soon; what they have, they may finish.
fn drain(app: &App, agent: &Agent, changes: &Changes) {
    let Some(group) = app.directory.find(agent.tenant, &agent.name) else {
        return;
    };
    for id in &changes.stop {
        group.drain_replica(*id);
    }
    let held = changes.drain.iter().map(|id| group.drain_replica(*id));
    let left: usize = held.sum();
    match (changes.drain.is_empty(), left) {
        (true, _) => {}
        (false, 0) => app.dirty.mark(agent.tenant, agent.id),
        // Looked at again when the drain ends, should no result come before.
        (false, _) => app.wake_later(agent.tenant, agent.id),
    }
}

async fn write_status(app: &App, snapshot: &Snapshot, changes: &Changes) -> Result<()> {
    let now = app.clock.now();
    let agent = &snapshot.agent;
    let fresh = rules::status(snapshot, changes, now);
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
