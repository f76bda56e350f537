//! Who is connected now.

use parallax_core::error::{Error, Result};
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

/// Part of the registry, by agent name and instance.
#[derive(Debug)]
pub struct RegistryPage {
    pub views: Vec<InstanceView>,
    /// What the next page begins after; `None` when there is none.
    pub next_cursor: Option<String>,
}

impl App {
    /// At most `limit` instances after `cursor`, of all or of those that offer a capability.
    ///
    /// # Errors
    /// `forbidden` without `read`, `invalid_request` for a cursor that no page ended with.
    pub fn list_registry(
        &self,
        principal: &Principal,
        capability: Option<&str>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<RegistryPage> {
        let mut views = self.registry(principal, capability)?;
        if let Some(cursor) = cursor {
            let after = cursor.split_once('/');
            let after = after.ok_or_else(|| {
                Error::invalid("`cursor` is none that a page of the registry ended with")
            })?;
            views.retain(|view| (view.agent_name.as_str(), view.peer.uuid.as_str()) > after);
        }
        let more = views.len() > limit;
        views.truncate(limit);
        let last = views.last().filter(|_| more);
        let next_cursor = last.map(|view| format!("{}/{}", view.agent_name, view.peer.uuid));
        Ok(RegistryPage { views, next_cursor })
    }

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

#[cfg(test)]
mod tests {
    use crate::dispatch::tests::Entry;
    use crate::testing::World;

    #[tokio::test]
    async fn pages_hold_every_instance_once_whatever_the_names_are() {
        let world = World::new().await;
        // `-` sorts before `/`, with which a cursor ends the name.
        let names = ["a", "a-b", "a0", "b"];
        let groups = names.map(|agent| world.group(agent));
        let entries = ["u1", "u2", "u3", "u4"].map(|uuid| Entry::new(uuid, 1));
        let joined = entries
            .into_iter()
            .zip(&groups)
            .map(|(entry, group)| entry.join(group));
        let _joined: Vec<_> = joined.collect();
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let page = world
                .app
                .list_registry(&world.admin, None, cursor.as_deref(), 1);
            let page = page.expect("the admin may read");
            seen.extend(page.views.iter().map(|view| view.agent_name.to_string()));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, names);
        let wrong = world.app.list_registry(&world.admin, None, Some("a"), 1);
        assert!(wrong.is_err(), "no page ended there");
    }
}
