//! What a deployment would do, without doing it.

use parallax_core::build::{BuildPhase, build_key};
use parallax_core::deploy::{Change, Wanted};
use parallax_core::error::Result;
use parallax_core::id::TenantId;
use parallax_core::key::Principal;
use parallax_core::manifest::AgentSpec;
use parallax_core::name::Name;
use parallax_core::placement::{self, Unschedulable};
use parallax_core::reconcile::HostEvidence;
use parallax_store::{Tx, agents, builds, hosts, revisions};

use super::App;

/// What a deployment would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    pub change: Change,
    /// The number of the revision that would be made; `None` when none would.
    pub revision: Option<u64>,
    /// How many replicas would be wanted.
    pub replicas: u32,
    pub build: BuildForecast,
    /// Why no host could take a replica of it now; `None` when one could, or none is wanted.
    pub unschedulable: Option<Unschedulable>,
}

/// Whether a deployment would have to be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildForecast {
    /// Without a source nobody can tell.
    Unknown,
    Needed,
    /// This host has reported that it built the same, and not that it is gone since.
    Reported(Name),
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
        let build = match wanted.source_digest {
            Some(digest) => {
                let key = build_key(digest, &wanted.spec.build());
                forecast_build(&mut tx, &key).await?
            }
            None => BuildForecast::Unknown,
        };
        drop(tx);
        let replicas = wanted.replicas(agent.as_ref());
        let unschedulable = match made && replicas > 0 && !wanted.suspended {
            true => self.refused_by_hosts(principal.tenant, wanted.spec).await?,
            false => None,
        };
        Ok(Forecast {
            change,
            revision: made.then_some(next),
            replicas,
            build,
            unschedulable,
        })
    }

    /// Why no host could take one more replica of `spec` now.
    async fn refused_by_hosts(
        &self,
        tenant: TenantId,
        spec: &AgentSpec,
    ) -> Result<Option<Unschedulable>> {
        let mut tx = self.store.read(tenant).await?;
        let joined = hosts::of_tenant(&mut tx).await?;
        drop(tx);
        let mut known: Vec<_> = joined
            .into_iter()
            .map(|host| self.host_evidence(host))
            .collect();
        self.add_loads(&mut known).await?;
        let candidates: Vec<_> = known.iter().map(HostEvidence::candidate).collect();
        Ok(placement::choose(&candidates, &spec.resources, spec.isolation).err())
    }
}

async fn forecast_build(tx: &mut Tx, key: &str) -> Result<BuildForecast> {
    for build in builds::list_for_key(tx, key).await? {
        if build.phase == BuildPhase::Succeeded
            && let Some(host) = hosts::get(tx, build.host).await?
        {
            return Ok(BuildForecast::Reported(host.name));
        }
    }
    Ok(BuildForecast::Needed)
}
