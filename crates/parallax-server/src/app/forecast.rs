//! What a deployment would do, without doing it.

use parallax_core::build::{BuildPhase, build_key};
use parallax_core::deploy::{Change, Wanted};
use parallax_core::error::Result;
use parallax_core::key::Principal;
use parallax_store::{agents, builds, revisions};

use super::App;

/// What a deployment would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    pub change: Change,
    /// The number of the revision that would be made; `None` when none would.
    pub revision: Option<u64>,
    /// How many replicas would be wanted.
    pub replicas: u32,
    /// Whether some host has the build already; `None` without a source.
    pub prepared: Option<bool>,
}

impl App {
    /// Says what a deployment would do. Without a source, it is taken for a changed one that is
    /// yet to be sent, unless the agent is to be suspended.
    ///
    /// # Errors
    /// As [`Self::check_deploy`].
    pub async fn forecast(&self, principal: &Principal, wanted: &Wanted<'_>) -> Result<Forecast> {
        self.check_deploy(principal, wanted.spec).await?;
        let mut tx = self.store.read(principal.tenant).await?;
        let agent = agents::by_name(&mut tx, &wanted.spec.name).await?;
        let (mut current, mut latest) = (None, None);
        if let Some(agent) = &agent {
            latest = revisions::latest(&mut tx, agent.id).await?;
            if let Some(id) = agent.revision {
                current = revisions::get(&mut tx, id).await?;
            }
        }
        let mut change = wanted.change(agent.as_ref(), current.as_ref());
        if wanted.source_digest.is_none() && !wanted.suspended && change != Change::Create {
            change = Change::Revision;
        }
        let made = match change {
            Change::Create => wanted.source_digest.is_some() || !wanted.suspended,
            Change::Revision => true,
            Change::Settings | Change::Nothing => false,
        };
        let next = latest.map_or(1, |revision| revision.number + 1);
        let prepared = match wanted.source_digest {
            Some(digest) => {
                let key = build_key(digest, &wanted.spec.build());
                let known = builds::list_for_key(&mut tx, &key).await?;
                Some(known.iter().any(|b| b.phase == BuildPhase::Succeeded))
            }
            None => None,
        };
        Ok(Forecast {
            change,
            revision: made.then_some(next),
            replicas: wanted.replicas(agent.as_ref()),
            prepared,
        })
    }
}
