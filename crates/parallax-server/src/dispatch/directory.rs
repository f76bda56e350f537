//! Which agents are connected: the one place that knows, so that forwarding between several
//! servers has one place to go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parallax_core::id::{ReplicaId, TaskId, TenantId};
use parallax_core::name::Name;
use parking_lot::RwLock;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::absent::Absent;
use super::call::Call;
use super::group::{Group, SlotId};
use super::instance::{InstanceView, Peer};
use super::live::Live;

/// Changes that a slow registry watcher may lag behind before it has to start over.
const CHANGES_KEPT: usize = 4096;

/// The registry of connected agents of all tenants.
#[derive(Debug)]
pub struct Directory {
    groups: RwLock<HashMap<TenantId, HashMap<Name, Arc<Group>>>>,
    changes: broadcast::Sender<RegistryChange>,
    live: Arc<Live>,
    pub absent: Absent,
}

/// Something joined, left or changed its state.
#[derive(Debug, Clone)]
pub struct RegistryChange {
    pub tenant: TenantId,
    pub agent: Name,
    pub instance_uuid: String,
    pub replica: Option<ReplicaId>,
    pub present: bool,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            groups: RwLock::default(),
            changes: broadcast::channel(CHANGES_KEPT).0,
            live: Arc::default(),
            absent: Absent::default(),
        }
    }
}

impl Directory {
    /// The group of a name, if any instance of it is known.
    pub fn find(&self, tenant: TenantId, name: &Name) -> Option<Arc<Group>> {
        self.groups.read().get(&tenant)?.get(name).cloned()
    }

    pub fn find_or_create(&self, tenant: TenantId, name: &Name) -> Arc<Group> {
        if let Some(group) = self.find(tenant, name) {
            return group;
        }
        let mut groups = self.groups.write();
        let of_tenant = groups.entry(tenant).or_default();
        let group = of_tenant
            .entry(name.clone())
            .or_insert_with(|| Arc::new(Group::new(tenant, name.clone(), Arc::clone(&self.live))));
        Arc::clone(group)
    }

    /// Updates of durable tasks.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Every instance of the tenant, by agent name.
    pub fn views(&self, tenant: TenantId, now: Instant) -> Vec<InstanceView> {
        let mut groups: Vec<Arc<Group>> = match self.groups.read().get(&tenant) {
            Some(groups) => groups.values().cloned().collect(),
            None => return Vec::new(),
        };
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        groups.iter().flat_map(|group| group.views(now)).collect()
    }

    /// Calls of the tenant that wait for room.
    pub fn waiting(&self, tenant: TenantId) -> usize {
        let groups = self.groups.read();
        let of_tenant = groups.get(&tenant);
        of_tenant.map_or(0, |groups| groups.values().map(|g| g.size().1).sum())
    }

    /// Finds a hosted replica's instance.
    pub fn replica(
        &self,
        tenant: TenantId,
        agent: &Name,
        replica: ReplicaId,
    ) -> Option<(Arc<Group>, SlotId)> {
        let group = self.find(tenant, agent)?;
        // The newest session speaks for the replica.
        let slot = group.slots_of_replica(replica, None).pop()?;
        Some((group, slot))
    }

    /// The call behind a task that an instance which `allowed` accepts holds.
    pub fn held_by(
        &self,
        tenant: TenantId,
        task: TaskId,
        allowed: impl Fn(&Peer) -> bool,
    ) -> Option<Arc<Call>> {
        let groups: Vec<Arc<Group>> = match self.groups.read().get(&tenant) {
            Some(groups) => groups.values().cloned().collect(),
            None => return None,
        };
        groups
            .iter()
            .find_map(|group| group.held_by(task, &allowed))
    }

    /// Announces a change to whoever watches.
    pub fn announce(&self, change: RegistryChange) {
        // No watcher is no error.
        drop(self.changes.send(change));
    }

    pub fn watch(&self) -> broadcast::Receiver<RegistryChange> {
        self.changes.subscribe()
    }

    /// Acknowledges what instances wait to hear of.
    pub fn acknowledge(&self) {
        for group in self.groups.read().values().flat_map(HashMap::values) {
            group.acknowledge();
        }
    }

    /// Applies the passing of time; answers the instances whose lease has ended.
    pub fn sweep(&self, now: Instant, grace: Duration) -> Vec<(Arc<Group>, SlotId)> {
        let groups: Vec<Arc<Group>> = self
            .groups
            .read()
            .values()
            .flat_map(|groups| groups.values().cloned())
            .collect();
        let mut ended = Vec::new();
        for group in groups {
            for slot in group.sweep(now, grace) {
                ended.push((Arc::clone(&group), slot));
            }
        }
        ended
    }

    /// Forgets names without instances and waiting calls.
    pub fn prune(&self) {
        self.groups.write().retain(|_, groups| {
            groups.retain(|_, group| group.size() != (0, 0) || Arc::strong_count(group) > 1);
            !groups.is_empty()
        });
    }
}
