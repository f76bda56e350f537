//! What a deployment changes: one rule for doing it and for saying what it would do.

use crate::agent::{Agent, Revision};
use crate::manifest::{AgentSpec, DEFAULT_REPLICAS};
use crate::status::Phase;

/// A deployment as it was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub spec: &'a AgentSpec,
    /// `None` when no source came along.
    pub source_digest: Option<&'a str>,
    pub suspended: bool,
}

/// What a deployment changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A new agent.
    Create,
    /// A new revision of the agent: its replicas are replaced.
    Revision,
    /// How many replicas run, or whether any does; the revision stays, and so do its replicas.
    Settings,
    /// Nothing: the same runs already.
    Nothing,
}

impl Wanted<'_> {
    /// What this changes of the agent of that name, whose wanted revision is `current`.
    ///
    /// The same spec and source again make no new revision, unless the agent has failed: then
    /// whoever deploys wants it tried again. How many replicas run is no part of a revision.
    #[must_use]
    pub fn change(&self, deployed: Option<&Agent>, current: Option<&Revision>) -> Change {
        let Some(agent) = deployed else {
            return Change::Create;
        };
        if let Some(digest) = self.source_digest {
            let same = current.is_some_and(|revision| {
                revision.source_digest == digest
                    && is_same_but_for_replicas(&revision.spec, self.spec)
            });
            if !same || agent.status.phase == Phase::Failed {
                return Change::Revision;
            }
        }
        if agent.suspended == self.suspended && agent.replicas == self.replicas(deployed) {
            Change::Nothing
        } else {
            Change::Settings
        }
    }

    /// How many replicas run after this: what the spec states; where it says nothing, as many as
    /// before, so that what was scaled stays scaled.
    #[must_use]
    pub fn replicas(&self, deployed: Option<&Agent>) -> u32 {
        let before = deployed.map(|agent| agent.replicas);
        self.spec.replicas.or(before).unwrap_or(DEFAULT_REPLICAS)
    }
}

fn is_same_but_for_replicas(one: &AgentSpec, other: &AgentSpec) -> bool {
    let other = AgentSpec {
        replicas: one.replicas,
        ..other.clone()
    };
    *one == other
}

#[cfg(test)]
mod tests;
