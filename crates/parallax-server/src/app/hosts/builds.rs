//! Builds that a host no longer has.

use std::collections::{BTreeSet, HashSet};

use parallax_core::build::BuildPhase;
use parallax_core::error::{Error, Result};
use parallax_core::id::{AgentId, BuildId};
use parallax_core::replica::{Replica, ReplicaPhase, Want};
use parallax_proto::v1;
use parallax_store::{builds, replicas};

use crate::app::App;
use crate::hosts::Connection;

/// Reads the ids of builds.
///
/// # Errors
/// `invalid_request` for what is none.
pub fn build_ids(ids: &[String]) -> Result<Vec<BuildId>> {
    let parse = |id: &String| {
        id.parse()
            .map_err(|e| Error::invalid(format!("build_id: {e}")))
    };
    ids.iter().map(parse).collect()
}

impl App {
    /// Forgets that a host has these builds, so that they are made again when they are needed, and
    /// gives up the replicas that wait for one. A build that has failed stays what it is.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn builds_removed(&self, connection: &Connection, ids: Vec<BuildId>) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let waiting = self.waiting_for(connection, &ids).await?;
        let (now, host) = (self.clock.now(), connection.host);
        let given = (ids, waiting);
        let written = self
            .store
            .write(connection.tenant, given, move |tx, (ids, waiting)| {
                Box::pin(async move {
                    let mut agents: BTreeSet<AgentId> = BTreeSet::new();
                    for id in ids.iter() {
                        let row = builds::get(tx, *id).await?.filter(|b| b.host == host);
                        if row.is_some_and(|b| b.phase == BuildPhase::Succeeded) {
                            builds::delete(tx, *id).await?;
                        }
                    }
                    for replica in waiting.iter() {
                        replicas::set_want(tx, replica.id, Want::Stop, now).await?;
                        agents.insert(replica.agent);
                    }
                    Ok::<_, Error>(agents)
                })
            });
        for agent in written.await? {
            self.dirty.mark(connection.tenant, agent);
        }
        Ok(())
    }

    /// Replicas that cannot start without one of these builds.
    async fn waiting_for(&self, connection: &Connection, ids: &[BuildId]) -> Result<Vec<Replica>> {
        let mut tx = self.store.system_read().await?;
        let mut rows = replicas::list_for_host(&mut tx, connection.host).await?;
        rows.retain(|row| {
            let unstarted = [ReplicaPhase::Pending, ReplicaPhase::Preparing];
            row.tenant == connection.tenant
                && row.want == Want::Run
                && ids.contains(&row.build)
                && unstarted.contains(&row.observed.phase)
        });
        Ok(rows)
    }

    /// Compares what a host says that it keeps with what it is believed to have prepared.
    ///
    /// # Errors
    /// Whatever the store says.
    pub(super) async fn compare_builds(
        &self,
        connection: &Connection,
        told: &[v1::BuildState],
    ) -> Result<()> {
        let there: HashSet<&str> = told.iter().map(|it| it.build_id.as_str()).collect();
        let mut tx = self.store.read(connection.tenant).await?;
        let believed = builds::list_prepared(&mut tx, connection.host).await?;
        drop(tx);
        let gone = believed.iter().map(|build| build.id);
        let gone = gone.filter(|id| !there.contains(id.to_string().as_str()));
        self.builds_removed(connection, gone.collect()).await
    }
}
