//! Events as pages, for readers that do not wait, and whose they are.

use parallax_core::agent::Agent;
use parallax_core::error::Result;
use parallax_core::key::{Principal, Scope};
use parallax_store::events::{self, Batch, Filter};

use super::App;
use super::agents::find;
use crate::auth::require;

impl App {
    /// The agent of this id or name, without its replicas.
    ///
    /// # Errors
    /// `not_found`, `forbidden` without the scope.
    pub async fn find_agent(
        &self,
        principal: &Principal,
        scope: Scope,
        agent: &str,
    ) -> Result<Agent> {
        require(principal, scope)?;
        let mut tx = self.store.read(principal.tenant).await?;
        find(&mut tx, agent).await
    }

    /// The tenant's events after a cursor, at most `limit`; does not wait for more.
    ///
    /// # Errors
    /// `forbidden` without `read`.
    pub async fn list_events(
        &self,
        principal: &Principal,
        filter: &Filter,
        after: u64,
        limit: u32,
    ) -> Result<Batch> {
        require(principal, Scope::Read)?;
        let mut tx = self.store.read(principal.tenant).await?;
        Ok(events::list_after(&mut tx, after, filter, limit).await?)
    }

    /// The tenant's newest cursor: where a reader begins that wants none of the past.
    ///
    /// # Errors
    /// `forbidden` without `read`.
    pub async fn latest_event(&self, principal: &Principal) -> Result<u64> {
        require(principal, Scope::Read)?;
        let mut tx = self.store.read(principal.tenant).await?;
        Ok(events::latest(&mut tx).await?)
    }
}
