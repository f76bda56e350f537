//! Since when the agents of hosted replicas are gone that were connected to this server.

use std::collections::HashMap;

use parallax_core::id::{AgentId, ReplicaId};
use parallax_core::time::Timestamp;
use parking_lot::Mutex;

/// When each was last heard of; bounded by the replicas, see [`Self::keep`].
#[derive(Debug, Default)]
pub struct Absent {
    agents: Mutex<HashMap<AgentId, HashMap<ReplicaId, Timestamp>>>,
}

impl Absent {
    /// The replica's agent is connected.
    pub fn came(&self, agent: AgentId, replica: ReplicaId) {
        let mut agents = self.agents.lock();
        if let Some(replicas) = agents.get_mut(&agent) {
            replicas.remove(&replica);
        }
    }

    /// Its last connection has ended; it was heard of until `at`.
    pub fn went(&self, agent: AgentId, replica: ReplicaId, at: Timestamp) {
        let mut agents = self.agents.lock();
        let replicas = agents.entry(agent).or_default();
        replicas.entry(replica).or_insert(at);
    }

    /// Since when the replica's agent is gone; `None` while it is connected, and when it never was.
    pub fn since(&self, agent: AgentId, replica: ReplicaId) -> Option<Timestamp> {
        self.agents.lock().get(&agent)?.get(&replica).copied()
    }

    /// Forgets all replicas of an agent but these.
    pub fn keep(&self, agent: AgentId, there: &[ReplicaId]) {
        let mut agents = self.agents.lock();
        if let Some(replicas) = agents.get_mut(&agent) {
            replicas.retain(|id, _| there.contains(id));
            if replicas.is_empty() {
                agents.remove(&agent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_counts_until_it_is_back_and_what_is_not_kept_is_forgotten() {
        let at = Timestamp::from_unix_millis;
        let agent = AgentId::new(at(0), [0; 10]);
        let [one, two] = [1, 2].map(|n| ReplicaId::new(at(0), [n; 10]));
        let absent = Absent::default();
        absent.went(agent, one, at(1));
        absent.went(agent, one, at(2));
        absent.went(agent, two, at(3));
        assert_eq!(absent.since(agent, one), Some(at(1)));
        absent.came(agent, one);
        assert_eq!(absent.since(agent, one), None);
        absent.keep(agent, &[two]);
        assert_eq!(absent.since(agent, two), Some(at(3)));
        absent.keep(agent, &[]);
        assert_eq!(absent.agents.lock().len(), 0, "nothing is left");
    }
}
