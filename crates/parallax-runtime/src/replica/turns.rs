//! Whose turn it is to be replaced: of each agent's replicas here, one at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use parallax_core::id::AgentId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The turns of all agents of a host.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<BTreeMap<AgentId, Arc<Semaphore>>>);

impl Turns {
    /// Waits for the turn of one replica of `agent`; the next one's comes when it is dropped. May
    /// be cancelled and called again.
    pub(super) async fn take(&self, agent: AgentId) -> OwnedSemaphorePermit {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let one = || Arc::new(Semaphore::new(1));
            turns.entry(agent).or_insert_with(one).clone()
        };
        let permit = turn.acquire_owned().await;
        permit.expect("nobody closes the turns of an agent")
    }
}
