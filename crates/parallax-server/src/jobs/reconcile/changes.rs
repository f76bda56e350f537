//! What one look at an agent writes, in one transaction.

use futures::future::BoxFuture;
use parallax_core::build::{Build, BuildPhase};
use parallax_core::error::Result;
use parallax_core::id::{AgentId, BuildId, ReplicaId};
use parallax_core::replica::{Replica, Want};
use parallax_core::status::Reason;
use parallax_core::time::Timestamp;
use parallax_store::{Tx, agents, builds, events, replicas, revisions};

use crate::app::events::agent_event;

#[derive(Debug)]
pub(super) struct Changes {
    pub agent: AgentId,
    pub agent_name: String,
    pub stop: Vec<ReplicaId>,
    pub create: Vec<Replica>,
    pub build: Vec<Build>,
    pub delete_replicas: Vec<ReplicaId>,
    pub cancel: Vec<BuildId>,
    pub delete_agent: bool,
}

impl Changes {
    pub(super) fn is_nothing(&self) -> bool {
        self.stop.is_empty()
            && self.create.is_empty()
            && self.build.is_empty()
            && self.delete_replicas.is_empty()
            && self.cancel.is_empty()
            && !self.delete_agent
    }

    /// Writes everything, or nothing: `false` says that a build which a new replica needs has gone
    /// since it was looked at. Whoever removes a build looks for replicas in the same way, so that
    /// of the two the later one always sees the earlier.
    pub(super) fn write<'t>(
        &'t self,
        tx: &'t mut Tx,
        now: Timestamp,
    ) -> BoxFuture<'t, Result<bool>> {
        Box::pin(async move {
            for replica in &self.create {
                if builds::get(tx, replica.build).await?.is_none() {
                    return Ok(false);
                }
            }
            for id in &self.stop {
                replicas::set_want(tx, *id, Want::Stop, now).await?;
            }
            for build in &self.build {
                builds::insert(tx, build).await?;
            }
            for replica in &self.create {
                replicas::insert(tx, replica).await?;
            }
            for id in &self.delete_replicas {
                replicas::delete(tx, *id).await?;
            }
            for id in &self.cancel {
                cancel(tx, *id).await?;
            }
            if self.delete_agent {
                self.delete_agent(tx, now).await?;
            }
            Ok(true)
        })
    }

    async fn delete_agent(&self, tx: &mut Tx, now: Timestamp) -> Result<()> {
        builds::delete_for_agent(tx, self.agent).await?;
        revisions::delete_for_agent(tx, self.agent).await?;
        agents::delete(tx, self.agent).await?;
        let message = format!("agent `{}` is gone", self.agent_name);
        let data = serde_json::json!({});
        let entry = agent_event(now, self.agent, "deleted", &message, &data);
        events::append(tx, &entry).await?;
        Ok(())
    }
}

/// Marks a build to be cancelled, as it is now: its host may have ended it since it was looked at.
/// One that no host has begun is over at once; others end when their host says so.
async fn cancel(tx: &mut Tx, id: BuildId) -> Result<()> {
    let Some(mut build) = builds::get(tx, id).await? else {
        return Ok(());
    };
    if build.phase.is_terminal() {
        return Ok(());
    }
    build.cancel_requested = true;
    if build.phase == BuildPhase::Queued {
        build.phase = BuildPhase::Cancelled;
        build.reason = Some(Reason::BuildCancelled);
        "nobody wants this build any more".clone_into(&mut build.message);
    }
    builds::update_progress(tx, &build).await?;
    Ok(())
}
