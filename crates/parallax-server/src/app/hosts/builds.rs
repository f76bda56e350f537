//! Builds that a host no longer has.

use std::collections::HashSet;

use parallax_core::build::BuildPhase;
use parallax_core::error::{Error, Result};
use parallax_core::id::BuildId;
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
    /// has the agents looked at whose replicas wait for one. A build that has failed stays what it
    /// is.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn builds_removed(&self, connection: &Connection, ids: Vec<BuildId>) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let host = connection.host;
        let given = ids.clone();
        let written = self
            .store
            .write(connection.tenant, given, move |tx, given| {
                Box::pin(async move {
                    for id in given.iter() {
                        let row = builds::get(tx, *id).await?.filter(|b| b.host == host);
                        if row.is_some_and(|b| b.phase == BuildPhase::Succeeded) {
                            builds::delete(tx, *id).await?;
                        }
                    }
                    Ok::<_, Error>(())
                })
            });
        written.await?;
        // Read only now: what was placed on one of them before is seen here, and nothing is placed
        // on one of them any more.
        let mut tx = self.store.system_read().await?;
        let rows = replicas::list_for_host(&mut tx, host).await?;
        for row in rows {
            if row.tenant == connection.tenant && ids.contains(&row.build) {
                self.dirty.mark(row.tenant, row.agent);
            }
        }
        Ok(())
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
