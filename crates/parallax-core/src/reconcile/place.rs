//! Finding hosts for new replicas; where the revision is not prepared yet, that comes first.

use std::collections::HashMap;

use super::{Changes, Snapshot};
use crate::agent::Revision;
use crate::build::{Build, BuildPhase};
use crate::id::{BuildId, HostId, ReplicaId};
use crate::placement::{self, Candidate, Load};
use crate::replica::{Observation, Replica, Want};
use crate::time::Timestamp;

pub(super) fn place(
    snapshot: &Snapshot,
    revision: &Revision,
    create: u32,
    now: Timestamp,
    entropy: &mut dyn FnMut() -> [u8; 10],
    changes: &mut Changes,
) {
    let hosts = snapshot.hosts.iter();
    let mut loads: HashMap<HostId, Load> = hosts.map(|known| (known.host.id, known.load)).collect();
    let spec = &revision.spec;
    for _ in 0..create {
        let candidates: Vec<Candidate<'_>> = snapshot
            .hosts
            .iter()
            .map(|known| Candidate {
                load: loads.get(&known.host.id).copied().unwrap_or_default(),
                ..known.candidate()
            })
            .collect();
        let host = match placement::choose(&candidates, &spec.resources, spec.isolation) {
            Ok(host) => host,
            Err(mut nowhere) => {
                // A host on the server's own machine joins a moment after the server's start.
                let just_started = now < snapshot.heard_since.plus(snapshot.lease);
                nowhere.awaited |= snapshot.hosts.is_empty() && just_started;
                changes.unschedulable = Some(nowhere);
                return;
            }
        };
        loads.entry(host).or_default().add(&spec.resources);
        let builds = snapshot.builds.iter().chain(&changes.build);
        match builds.into_iter().find(|build| build.host == host) {
            Some(build) if build.phase == BuildPhase::Succeeded => {
                let id = ReplicaId::new(now, entropy());
                let replica = new_replica(snapshot, revision, build, id, now);
                changes.create.push(replica);
            }
            // Under way, or failed: a failed build is not tried again by itself.
            Some(_) => {}
            None => {
                let id = BuildId::new(now, entropy());
                let build = new_build(snapshot, revision, host, id, now);
                changes.build.push(build);
            }
        }
    }
}

fn new_replica(
    snapshot: &Snapshot,
    revision: &Revision,
    build: &Build,
    id: ReplicaId,
    now: Timestamp,
) -> Replica {
    Replica {
        tenant: snapshot.agent.tenant,
        id,
        agent: snapshot.agent.id,
        revision: revision.id,
        revision_number: revision.number,
        host: build.host,
        build: build.id,
        want: Want::Run,
        observed: Observation::nothing_yet(),
        created_at: now,
        updated_at: now,
    }
}

fn new_build(
    snapshot: &Snapshot,
    revision: &Revision,
    host: HostId,
    id: BuildId,
    now: Timestamp,
) -> Build {
    Build {
        tenant: snapshot.agent.tenant,
        id,
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
    }
}
