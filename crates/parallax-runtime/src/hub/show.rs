//! What the hub tells of builds and refusals, and where logs are.

use std::sync::Arc;

use parallax_core::id::{BuildId, ReplicaId};
use parallax_core::replica::ReplicaPhase;
use parallax_core::status::Reason;
use parallax_proto::v1::{DesiredReplica, ObservedReplica};

use super::{Hub, LogSource};

impl Hub {
    pub(super) fn find_log(&self, source: &str, tenant: &str) -> Option<LogSource> {
        let layout = &self.context.layout;
        let (owner, dir, tip) = if let Ok(id) = source.parse::<ReplicaId>() {
            let entry = self.replicas.get(&id)?;
            let dir = layout.replica(id).path().to_path_buf();
            (entry.tenant, dir, entry.handle.tip.clone())
        } else {
            let id = source.parse::<BuildId>().ok()?;
            let (owner, tip) = self.builds.log(id)?;
            (owner, layout.build(id).path().to_path_buf(), tip)
        };
        (owner.to_string() == tenant).then_some(LogSource { dir, tip })
    }

    pub(super) fn show_builds(
        &self,
        changed: impl IntoIterator<Item = parallax_proto::v1::BuildState>,
    ) {
        let changed: Vec<_> = changed.into_iter().collect();
        if changed.is_empty() {
            return;
        }
        self.view.send_modify(|view| {
            for state in changed {
                view.builds.insert(state.build_id.clone(), Arc::new(state));
            }
        });
    }

    pub(super) fn show_misunderstood(&self, wire: &DesiredReplica, words: String) {
        self.show_refused(wire, Reason::StartFailed, words);
    }

    pub(super) fn show_refused(&self, wire: &DesiredReplica, reason: Reason, message: String) {
        let observed = ObservedReplica {
            replica_id: wire.replica_id.clone(),
            tenant_id: wire.tenant_id.clone(),
            phase: ReplicaPhase::Failed.as_str().to_owned(),
            reason: reason.as_str().to_owned(),
            message,
            ..ObservedReplica::default()
        };
        self.view.send_modify(|view| {
            view.replicas
                .insert(wire.replica_id.clone(), Arc::new(observed));
        });
    }
}
