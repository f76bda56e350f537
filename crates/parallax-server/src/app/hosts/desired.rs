//! What a host should run, as one frame.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use parallax_core::agent::{Agent, Revision};
use parallax_core::error::{Error, Result};
use parallax_core::id::{AgentId, ReplicaId, RevisionId};
use parallax_core::replica::{Replica, Want};
use parallax_core::time::Timestamp;
use parallax_proto::v1;
use parallax_store::{agents, builds, replicas, revisions};

use crate::app::App;
use crate::auth::token::{ReplicaClaims, Secret};
use crate::hosts::Connection;

/// What one session remembers between two frames: the credentials it has handed out.
#[derive(Debug, Default)]
pub struct HandedOut {
    credentials: HashMap<ReplicaId, (Secret, Timestamp)>,
}

impl App {
    /// Reads all that the host should run. The frame is complete: what it does not name goes.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn desired(
        &self,
        connection: &Connection,
        handed_out: &mut HandedOut,
    ) -> Result<v1::Desired> {
        let mut tx = self.store.system_read().await?;
        let mut rows = replicas::list_for_host(&mut tx, connection.host).await?;
        let mut wanted_builds = builds::list_active(&mut tx, connection.host).await?;
        drop(tx);
        // A host serves the tenant that it joined, and hears of no other.
        rows.retain(|row| row.tenant == connection.tenant);
        wanted_builds.retain(|build| build.tenant == connection.tenant);
        let mut tx = self.store.read(connection.tenant).await?;
        let kept = builds::list_current(&mut tx, connection.host).await?;
        let mut known_agents: HashMap<AgentId, Agent> = HashMap::new();
        let mut known_revisions: HashMap<RevisionId, Revision> = HashMap::new();
        let mut frame = v1::Desired {
            host_epoch: connection.epoch,
            generation: connection.next_generation(),
            complete: true,
            replicas: Vec::with_capacity(rows.len()),
            builds: wanted_builds
                .iter()
                .map(|build| build_frame(build, self))
                .collect::<Result<_>>()?,
            forget_replicas: Vec::new(),
            kept_builds: Some(v1::KeptBuilds {
                build_ids: kept.iter().map(ToString::to_string).collect(),
            }),
        };
        for row in &rows {
            let agent = match known_agents.entry(row.agent) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => match agents::get(&mut tx, row.agent).await? {
                    Some(agent) => place.insert(agent),
                    None => continue,
                },
            };
            let revision = match known_revisions.entry(row.revision) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => match revisions::get(&mut tx, row.revision).await? {
                    Some(revision) => place.insert(revision),
                    None => continue,
                },
            };
            frame
                .replicas
                .push(self.replica_frame(row, agent, revision, handed_out)?);
        }
        handed_out
            .credentials
            .retain(|replica, _| rows.iter().any(|row| row.id == *replica));
        let forgotten = connection.take_forgotten();
        frame.forget_replicas = forgotten.iter().map(ToString::to_string).collect();
        Ok(frame)
    }

    fn replica_frame(
        &self,
        row: &Replica,
        agent: &Agent,
        revision: &Revision,
        handed_out: &mut HandedOut,
    ) -> Result<v1::DesiredReplica> {
        let run = revision.spec.run();
        let (token, expires_at) = self.credential(row, agent, handed_out);
        let want = match row.want {
            Want::Run => v1::desired_replica::Want::Run,
            Want::Stop => v1::desired_replica::Want::Stop,
        };
        Ok(v1::DesiredReplica {
            replica_id: row.id.to_string(),
            tenant_id: row.tenant.to_string(),
            agent_id: row.agent.to_string(),
            agent_name: agent.name.to_string(),
            revision_id: row.revision.to_string(),
            revision_number: row.revision_number,
            want: want.into(),
            build_id: row.build.to_string(),
            stop_grace_ms: run.stop_grace_ms,
            run_spec_json: serde_json::to_vec(&run).map_err(Error::internal)?.into(),
            token: token.reveal().to_owned(),
            token_expires_unix_ms: expires_at.unix_millis(),
            // An agent dials where its host does: only the host knows which way leads here.
            server_url: String::new(),
            ca_pem: Vec::new().into(),
        })
    }

    /// The replica's credential; a new one once half of its life is over.
    fn credential(
        &self,
        row: &Replica,
        agent: &Agent,
        handed_out: &mut HandedOut,
    ) -> (Secret, Timestamp) {
        let now = self.clock.now();
        let ttl = self.limits.replica_credential_ttl;
        if let Some((token, expires_at)) = handed_out.credentials.get(&row.id)
            && expires_at.since(now) > ttl / 2
        {
            return (token.clone(), *expires_at);
        }
        let expires_at = now.plus(ttl);
        let token = self.auth.mint_replica(&ReplicaClaims {
            tenant: row.tenant,
            agent: row.agent,
            agent_name: agent.name.clone(),
            replica: row.id,
            expires_at,
        });
        handed_out
            .credentials
            .insert(row.id, (token.clone(), expires_at));
        (token, expires_at)
    }
}

fn build_frame(build: &parallax_core::build::Build, app: &App) -> Result<v1::DesiredBuild> {
    Ok(v1::DesiredBuild {
        build_id: build.id.to_string(),
        tenant_id: build.tenant.to_string(),
        agent_name: build.agent_name.to_string(),
        source_digest: build.source_digest.clone(),
        source_bytes: build.source_bytes,
        build_spec_json: serde_json::to_vec(&build.spec)
            .map_err(Error::internal)?
            .into(),
        cancel: build.cancel_requested,
        deadline_ms: u64::try_from(app.limits.build_deadline.as_millis()).unwrap_or(u64::MAX),
    })
}
