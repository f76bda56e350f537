//! What a host knows of itself, as the session tells it to the control plane.

use std::collections::BTreeMap;
use std::sync::Arc;

use parallax_proto::v1::{BuildState, Observed, ObservedReplica};

/// A snapshot. Cheap to clone: sessions compare the newest with what they have sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Whether every replica of earlier hosts has been looked at. Before that nothing may be told,
    /// because what is absent would count as gone.
    pub(crate) loaded: bool,
    /// The newest desired state that is followed.
    pub(crate) generation: u64,
    pub(crate) replicas: BTreeMap<String, Arc<ObservedReplica>>,
    pub(crate) builds: BTreeMap<String, Arc<BuildState>>,
}

impl View {
    /// Everything.
    pub(crate) fn whole(&self, host_epoch: u64) -> Observed {
        Observed {
            host_epoch,
            generation: self.generation,
            complete: true,
            replicas: self.replicas.values().map(|it| (**it).clone()).collect(),
        }
    }

    /// What has changed since `sent`; `None` when nothing has.
    pub(crate) fn since(&self, sent: &Self, host_epoch: u64) -> Option<Observed> {
        if sent
            .replicas
            .keys()
            .any(|id| !self.replicas.contains_key(id))
        {
            // Only a complete observation can say that something is gone.
            return Some(self.whole(host_epoch));
        }
        let changed: Vec<ObservedReplica> = self
            .replicas
            .iter()
            .filter(|(id, now)| sent.replicas.get(*id) != Some(now))
            .map(|(_, now)| (**now).clone())
            .collect();
        if changed.is_empty() && sent.generation == self.generation {
            return None;
        }
        Some(Observed {
            host_epoch,
            generation: self.generation,
            complete: false,
            replicas: changed,
        })
    }

    /// The builds that have changed since `sent`.
    pub(crate) fn builds_since(&self, sent: &Self) -> Vec<BuildState> {
        self.builds
            .iter()
            .filter(|(id, now)| sent.builds.get(*id) != Some(now))
            .map(|(_, now)| (**now).clone())
            .collect()
    }

    /// The builds that are here no more since `sent`.
    pub(crate) fn builds_gone(&self, sent: &Self) -> Vec<String> {
        let gone = sent.builds.keys();
        gone.filter(|id| !self.builds.contains_key(*id))
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(generation: u64, replicas: &[(&str, &str)]) -> View {
        let replica = |(id, phase): &(&str, &str)| {
            let observed = ObservedReplica {
                replica_id: (*id).to_owned(),
                phase: (*phase).to_owned(),
                ..ObservedReplica::default()
            };
            ((*id).to_owned(), Arc::new(observed))
        };
        View {
            generation,
            replicas: replicas.iter().map(replica).collect(),
            ..View::default()
        }
    }

    fn ids(observed: Option<Observed>) -> Option<(bool, Vec<String>)> {
        let observed = observed?;
        let ids = observed
            .replicas
            .into_iter()
            .map(|it| it.replica_id)
            .collect();
        Some((observed.complete, ids))
    }

    #[test]
    fn only_what_has_changed_is_told() {
        let before = view(1, &[("a", "running"), ("b", "starting")]);
        let after = view(1, &[("a", "running"), ("b", "running")]);
        assert_eq!(
            ids(after.since(&before, 1)),
            Some((false, vec!["b".to_owned()]))
        );
        assert_eq!(ids(after.since(&after, 1)), None);
    }

    #[test]
    fn what_is_gone_needs_a_complete_observation() {
        let before = view(1, &[("a", "running"), ("b", "stopped")]);
        let after = view(1, &[("a", "running")]);
        assert_eq!(
            ids(after.since(&before, 1)),
            Some((true, vec!["a".to_owned()]))
        );
    }

    #[test]
    fn a_newer_generation_is_told_even_when_nothing_else_changed() {
        let before = view(1, &[("a", "running")]);
        let after = view(2, &[("a", "running")]);
        assert_eq!(ids(after.since(&before, 1)), Some((false, Vec::new())));
    }
}
