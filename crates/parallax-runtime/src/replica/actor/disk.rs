//! What the task of a replica reads and writes in its folder.

use std::sync::Arc;

use parallax_core::time::Timestamp;
use parallax_shim::adopt::Adoption;
use parallax_shim::durable;
use parallax_shim::record::StateRecord;

use super::{Actor, Event, TRY_AGAIN, Written};
use crate::error::{HostError, blocking};
use crate::link::{self, End};
use crate::prepared::Prepared;
use crate::replica::{files, observe};

impl Actor {
    /// Finds out what became of the newest incarnation while no host was there.
    pub(super) async fn take_over(&mut self) {
        if self.incarnation == 0 || self.progress.accounted >= self.incarnation {
            return;
        }
        let dir = self.dir.incarnation(self.incarnation);
        self.cgroup = self.context.limiter.existing(&self.id.to_string());
        loop {
            match link::conclude(&dir).await {
                Ok(Adoption::Running { state }) => {
                    tracing::info!(replica = %self.id, pid = state.child_pid, "replica taken over");
                    return self.attach(state);
                }
                Ok(Adoption::Exited(record)) => {
                    let started = self.recorded_start(&dir);
                    return self.ended(End::Recorded(Box::new(record)), started).await;
                }
                Ok(Adoption::Lost { state }) => match link::kill_leftovers(&dir).await {
                    Ok(_) => {
                        return self
                            .ended(End::Unrecorded, Some(observe::started(&state)))
                            .await;
                    }
                    Err(error) => self.fail("clear away what its shim left", &error),
                },
                Ok(Adoption::NeverStarted) => {
                    self.progress.accounted = self.incarnation;
                    return;
                }
                Err(error) => self.fail("judge its last process", &error),
            }
            self.report().await;
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }

    /// Whether files are gone without which nothing starts. Then the revision counts as not
    /// prepared, and the hub has it made again.
    pub(super) async fn is_damaged(&mut self, prepared: &Arc<Prepared>) -> bool {
        let looked = prepared.clone();
        // A host that is shutting down starts nothing.
        let missing = blocking(move || Ok(looked.missing())).await.ok().flatten();
        let Some(path) = missing else {
            return false;
        };
        let build = prepared.build;
        tracing::warn!(replica = %self.id, %build, missing = %path.display(), "files of a prepared revision are gone; it has to be made again");
        self.gone = Some(prepared.clone());
        // The hub is gone only when the host is.
        let _ = self.context.events.send(Event::BuildGone(build)).await;
        true
    }

    pub(super) fn recorded_start(&self, dir: &std::path::Path) -> Option<Timestamp> {
        // Without it, how long the process ran is unknown, and nothing is forgiven.
        let state = StateRecord::load(dir).ok().flatten()?;
        Some(observe::started(&state))
    }

    /// Keeps what the host needs to go on without the server, and what the agent reads.
    pub(super) async fn write_orders(&mut self) -> Result<(), HostError> {
        let orders = &self.orders;
        let assignment = (self.written.assignment.as_ref() != Some(&orders.assignment))
            .then(|| orders.assignment.clone());
        let token = orders
            .token
            .clone()
            .filter(|token| self.written.token.as_ref() != Some(token));
        let ca = orders
            .ca_pem
            .clone()
            .filter(|pem| self.written.ca_pem.as_ref() != Some(pem));
        if (assignment.is_none() && token.is_none() && ca.is_none()) || orders.forget {
            return Ok(());
        }
        let dir = self.dir.clone();
        blocking(move || {
            files::make_folders(&dir)?;
            if let Some(ca) = ca {
                files::write_ca(&dir, &ca)?;
            }
            if let Some(token) = token {
                files::write_token(&dir, &token)?;
            }
            if let Some(assignment) = assignment {
                durable::write_json(&dir.desired(), &assignment)?;
            }
            Ok(())
        })
        .await?;
        self.written = Written {
            assignment: Some(self.orders.assignment.clone()),
            token: self
                .orders
                .token
                .clone()
                .or_else(|| self.written.token.take()),
            ca_pem: self
                .orders
                .ca_pem
                .clone()
                .or_else(|| self.written.ca_pem.take()),
        };
        Ok(())
    }

    /// Removes everything; false when that has to be tried again.
    pub(super) async fn forget(&mut self) -> bool {
        self.release().await;
        let dir = self.dir.clone();
        match blocking(move || crate::layout::remove_tree(dir.path())).await {
            Ok(()) => {
                // The hub is gone only when the host is.
                let _ = self.context.events.send(Event::Gone(self.id)).await;
                true
            }
            Err(error) => {
                self.fail("remove its files", &error);
                false
            }
        }
    }
}
