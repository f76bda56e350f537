//! Who is connected now.

use parallax_core::error::Result;
use parallax_core::id::TenantId;
use parallax_core::key::{Principal, Scope};
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::App;
use crate::auth::require;
use crate::dispatch::{InstanceView, RegistryChange};

/// A watcher of the registry.
pub struct RegistryWatch {
    tenant: TenantId,
    changes: broadcast::Receiver<RegistryChange>,
}

/// What a watcher is told.
#[derive(Debug)]
pub enum RegistryNews {
    Changed(RegistryChange),
    /// The watcher fell behind: it should read everything again.
    Resync,
    /// The server stops.
    Closed,
}

impl RegistryWatch {
    pub async fn next(&mut self) -> RegistryNews {
        loop {
            match self.changes.recv().await {
                Ok(change) if change.tenant == self.tenant => return RegistryNews::Changed(change),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => return RegistryNews::Resync,
                Err(broadcast::error::RecvError::Closed) => return RegistryNews::Closed,
            }
        }
    }
}

/// Where a page of the registry ends.
#[must_use]
pub fn cursor(view: &InstanceView) -> String {
    format!("{}/{}", view.agent_name, view.peer.uuid)
}

impl App {
    /// Every instance of the tenant, or those that offer a capability, by agent name.
    ///
    /// # Errors
    /// `forbidden` without `read`.
    pub fn registry(
        &self,
        principal: &Principal,
        capability: Option<&str>,
    ) -> Result<Vec<InstanceView>> {
        require(principal, Scope::Read)?;
        let mut views = self.directory.views(principal.tenant, Instant::now());
        if let Some(capability) = capability {
            views.retain(|view| view.peer.capability(capability).is_some());
        }
        views.sort_by(|a, b| (&a.agent_name, &a.peer.uuid).cmp(&(&b.agent_name, &b.peer.uuid)));
        Ok(views)
    }

    /// Begins to watch. To miss nothing, begin before reading [`Self::registry`].
    ///
    /// # Errors
    /// `forbidden` without `read`.
    pub fn watch_registry(&self, principal: &Principal) -> Result<RegistryWatch> {
        require(principal, Scope::Read)?;
        Ok(RegistryWatch {
            tenant: principal.tenant,
            changes: self.directory.watch(),
        })
    }
}
