//! What a deployment would do, without doing it.

use parallax_core::build::{BuildPhase, build_key};
use parallax_core::error::Result;
use parallax_core::key::Principal;
use parallax_core::manifest::AgentSpec;
use parallax_core::status::Phase;
use parallax_store::{agents, builds, revisions};

use super::App;

/// What a deployment would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    pub exists: bool,
    /// The number of the revision that would be made; `None` when nothing would change.
    pub revision: Option<u64>,
    /// Whether some host has the build already; `None` without a source.
    pub prepared: Option<bool>,
}

impl App {
    /// Says what deploying `spec` with the source of this digest would do.
    ///
    /// # Errors
    /// As [`Self::check_deploy`].
    pub async fn forecast(
        &self,
        principal: &Principal,
        spec: &AgentSpec,
        source_digest: Option<&str>,
        suspended: bool,
    ) -> Result<Forecast> {
        self.check_deploy(principal, spec).await?;
        let mut tx = self.store.read(principal.tenant).await?;
        let agent = agents::by_name(&mut tx, &spec.name).await?;
        let latest = match &agent {
            Some(agent) => revisions::latest(&mut tx, agent.id).await?,
            None => None,
        };
        let next = latest.as_ref().map_or(1, |revision| revision.number + 1);
        let Some(digest) = source_digest else {
            let revision = (!suspended).then_some(next);
            return Ok(Forecast {
                exists: agent.is_some(),
                revision,
                prepared: None,
            });
        };
        let same = agent
            .as_ref()
            .zip(latest.as_ref())
            .is_some_and(|(agent, current)| {
                agent.status.phase != Phase::Failed
                    && agent.revision == Some(current.id)
                    && current.source_digest == digest
                    && current.spec == *spec
                    && agent.suspended == suspended
                    && agent.replicas == spec.replicas
            });
        let known = builds::list_for_key(&mut tx, &build_key(digest, &spec.build())).await?;
        Ok(Forecast {
            exists: agent.is_some(),
            revision: (!same).then_some(next),
            prepared: Some(
                known
                    .iter()
                    .any(|build| build.phase == BuildPhase::Succeeded),
            ),
        })
    }
}
