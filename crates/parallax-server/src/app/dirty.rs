//! Agents that somebody wants looked at.

use std::collections::HashSet;

use parallax_core::id::{AgentId, TenantId};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// A set that wakes its reader. Marking twice is one look: bounded by the number of agents.
#[derive(Debug, Default)]
pub struct Dirty {
    marked: Mutex<HashSet<(TenantId, AgentId)>>,
    wake: Notify,
}

impl Dirty {
    pub fn mark(&self, tenant: TenantId, agent: AgentId) {
        self.marked.lock().insert((tenant, agent));
        self.wake.notify_one();
    }

    pub async fn wait(&self) {
        self.wake.notified().await;
    }

    pub fn take(&self) -> Vec<(TenantId, AgentId)> {
        self.marked.lock().drain().collect()
    }
}
