//! Writing what one look at an agent changes, in one transaction.

use futures::future::BoxFuture;
use parallax_core::agent::Agent;
use parallax_core::build::BuildPhase;
use parallax_core::error::Result;
use parallax_core::id::{AgentId, BuildId};
use parallax_core::reconcile::Changes;
use parallax_core::replica::Want;
use parallax_core::status::Reason;
use parallax_core::time::Timestamp;
use parallax_store::{Tx, agents, builds, events, replicas, revisions};

use crate::app::events::agent_event;

/// Changes of an agent, to be written.
pub(super) struct Writing {
    pub agent: AgentId,
    pub agent_name: String,
    pub changes: Changes,
}

impl Writing {
    pub(super) fn of(agent: &Agent, changes: &Changes) -> Self {
        Self {
            agent: agent.id,
            agent_name: agent.name.to_string(),
            changes: changes.clone(),
        }
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
            for replica in &self.changes.create {
                if builds::get(tx, replica.build).await?.is_none() {
                    return Ok(false);
                }
            }
            for id in &self.changes.stop {
                replicas::set_want(tx, *id, Want::Stop, now).await?;
            }
            for build in &self.changes.build {
                builds::insert(tx, build).await?;
            }
            for replica in &self.changes.create {
                replicas::insert(tx, replica).await?;
            }
            for id in &self.changes.forget {
                replicas::delete(tx, *id).await?;
            }
            for id in &self.changes.cancel {
                cancel(tx, *id).await?;
            }
            if self.changes.delete_agent {
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
