//! Reading everything that one look at an agent needs.

use std::collections::BTreeSet;

use parallax_core::agent::Agent;
use parallax_core::error::Result;
use parallax_core::host::Contact;
use parallax_core::id::{AgentId, ReplicaId, TenantId};
use parallax_core::reconcile::Snapshot;
use parallax_core::replica::Replica;
use parallax_core::status::ReplicaEvidence;
use parallax_store::{agents, builds, hosts, replicas, revisions};

use crate::app::App;

/// Builds of an agent that are looked at for one that nobody wants any more: far more than can be
/// under way.
const BUILDS_LOOKED_AT: u32 = 50;

/// `None` when there is no such agent any more.
pub(super) async fn read(app: &App, tenant: TenantId, id: AgentId) -> Result<Option<Snapshot>> {
    let mut tx = app.store.read(tenant).await?;
    let Some(agent) = agents::get(&mut tx, id).await? else {
        app.directory.absent.keep(id, &[]);
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
    let mut outdated = builds::list_for_agent(&mut tx, id, BUILDS_LOOKED_AT).await?;
    outdated.retain(|b| !b.phase.is_terminal() && !builds.iter().any(|current| current.id == b.id));
    let rows = replicas::list_for_agent(&mut tx, id).await?;
    let hosts = hosts::of_tenant(&mut tx).await?;
    drop(tx);
    let (replicas, busy) = seen(app, &agent, rows);
    let mut snapshot = Snapshot {
        agent,
        revision,
        builds,
        outdated,
        replicas,
        busy,
        hosts: hosts
            .into_iter()
            .map(|host| app.host_evidence(host))
            .collect(),
        dead_kept: app.limits.dead_replicas_kept,
        lease: app.limits.lease_ttl,
        heard_since: app.started_at,
    };
    if snapshot.wants_more() {
        app.add_loads(&mut snapshot.hosts).await?;
    }
    Ok(Some(snapshot))
}

/// What is known live of these replicas, and which of them have work in hand.
fn seen(
    app: &App,
    agent: &Agent,
    rows: Vec<Replica>,
) -> (Vec<ReplicaEvidence>, BTreeSet<ReplicaId>) {
    let group = app.directory.find(agent.tenant, &agent.name);
    let ids: Vec<ReplicaId> = rows.iter().map(|replica| replica.id).collect();
    app.directory.absent.keep(agent.id, &ids);
    let mut busy = BTreeSet::new();
    let evidence = |replica: Replica| {
        if group.as_ref().is_some_and(|g| g.is_busy(replica.id)) {
            busy.insert(replica.id);
        }
        let contact = match app.contact(replica.host) {
            // Its agent has as long to come back to a server as its host has.
            Contact::Connected if app.has_just_started() && replica.created_at < app.started_at => {
                Contact::Awaited
            }
            contact => contact,
        };
        ReplicaEvidence {
            registered: group.as_ref().is_some_and(|g| g.is_registered(replica.id)),
            lost_at: app.lost_at(&replica),
            contact,
            replica,
        }
    };
    (rows.into_iter().map(evidence).collect(), busy)
}
