//! Which builds are still of use.

use parallax_core::id::BuildId;

use super::{Hub, is_over};

impl Hub {
    /// Gives up builds that neither the server nor a replica needs.
    pub(super) fn collect(&mut self) {
        let Some(kept) = &self.kept_builds else {
            return;
        };
        let mut needed = kept.clone();
        {
            let view = self.view.borrow();
            for (id, entry) in &self.replicas {
                let seen = view.replicas.get(&id.to_string());
                if entry.runs || seen.is_none_or(|it| !is_over(&it.phase)) {
                    needed.extend(&entry.builds);
                }
            }
        }
        let removed = self.builds.collect(&needed);
        self.hide_builds(&removed);
    }

    /// Has the control plane told that these builds are here no more.
    pub(super) fn hide_builds(&self, removed: &[BuildId]) {
        if removed.is_empty() {
            return;
        }
        self.view.send_modify(|view| {
            for id in removed {
                view.builds.remove(&id.to_string());
            }
        });
    }
}
