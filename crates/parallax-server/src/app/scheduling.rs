//! What the scheduler goes by: the hosts of a tenant, whether they are there, and what is
//! reserved on them.

use std::collections::HashMap;

use parallax_core::error::Result;
use parallax_core::host::Host;
use parallax_core::id::HostId;
use parallax_core::placement::Load;
use parallax_core::reconcile::HostEvidence;
use parallax_store::replicas;

use super::App;

impl App {
    /// A host with what is known live of it, and nothing reserved on it yet.
    pub(crate) fn host_evidence(&self, host: Host) -> HostEvidence {
        HostEvidence {
            contact: self.contact(host.id),
            heard: self.hosts.is_connected(host.id) || self.hosts.left_at(host.id).is_some(),
            load: Load::default(),
            host,
        }
    }

    /// Fills in what the replicas of all agents of all tenants reserve.
    ///
    /// # Errors
    /// As the store's.
    pub(crate) async fn add_loads(&self, hosts: &mut [HostEvidence]) -> Result<()> {
        let mut tx = self.store.system_read().await?;
        let mut loads: HashMap<HostId, Load> = HashMap::new();
        for reserved in replicas::reserved(&mut tx).await? {
            let load = loads.entry(reserved.host).or_default();
            (0..reserved.replicas).for_each(|_| load.add(&reserved.resources));
        }
        for known in hosts {
            known.load = loads.get(&known.host.id).copied().unwrap_or_default();
        }
        Ok(())
    }
}
