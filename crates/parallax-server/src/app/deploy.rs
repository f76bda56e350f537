//! Deploying: a spec and a source become a revision.

use std::sync::Arc;

use parallax_core::agent::{Agent, MAX_REPLICAS, ManagedBy, Revision};
use parallax_core::build::build_key;
use parallax_core::error::{Code, Error, Result};
use parallax_core::id::{AgentId, RevisionId};
use parallax_core::key::{Principal, Scope};
use parallax_core::manifest::AgentSpec;
use parallax_core::status::{Phase, Status};
use parallax_store::{Tx, agents, events, revisions, sources};

use super::App;
use super::agents::forget_failed_builds;
use super::events::agent_event;
use crate::auth::require;
use crate::clock::random;

/// What was uploaded.
#[derive(Debug, Clone)]
pub struct StoredSource {
    /// `sha256:…` of the archive.
    pub digest: String,
    pub bytes: u64,
}

/// A deployment that was taken on.
#[derive(Debug)]
pub struct Deployed {
    pub agent: Agent,
    pub revision: Option<Revision>,
    /// Whether anything changed: the same spec and source again change nothing.
    pub changed: bool,
}

impl App {
    /// Refuses a deployment that could not be carried out, before anything is uploaded or stored.
    ///
    /// # Errors
    /// `invalid_spec`, `conflict` with a connected external agent of that name, `conflict` while the
    /// agent is being deleted, `managed_elsewhere`, `forbidden` without `deploy`.
    pub async fn check_deploy(&self, principal: &Principal, spec: &AgentSpec) -> Result<()> {
        require(principal, Scope::Deploy)?;
        if let Err(problems) = spec.validate() {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return Err(Error::new(Code::InvalidSpec, lines.join("\n")));
        }
        if spec.replicas > MAX_REPLICAS {
            return Err(Error::new(
                Code::InvalidSpec,
                format!("`replicas` may be at most {MAX_REPLICAS}"),
            ));
        }
        let mut tx = self.store.read(principal.tenant).await?;
        match agents::by_name(&mut tx, &spec.name).await? {
            Some(agent) => deployable(&agent),
            None => self.check_name_is_free(principal, spec),
        }
    }

    fn check_name_is_free(&self, principal: &Principal, spec: &AgentSpec) -> Result<()> {
        let taken = self
            .directory
            .find(principal.tenant, &spec.name)
            .is_some_and(|group| group.size().0 > 0);
        if !taken {
            return Ok(());
        }
        let message = format!(
            "an external agent is connected as `{}`; choose another name or stop it first",
            spec.name
        );
        Err(Error::new(Code::Conflict, message))
    }

    /// Makes the agent or its next revision.
    ///
    /// # Errors
    /// As [`Self::check_deploy`]; `invalid_request` without a source, unless `suspended`.
    pub async fn deploy(
        &self,
        principal: &Principal,
        spec: AgentSpec,
        source: Option<StoredSource>,
        suspended: bool,
    ) -> Result<Deployed> {
        self.check_deploy(principal, &spec).await?;
        if source.is_none() && !suspended {
            let message = "a deployment needs a `source` part (tar.gz), unless `suspended` is true";
            return Err(Error::invalid(message));
        }
        // Its blob must not be collected between this look and its first use.
        let _use = self.collecting.read().await;
        if let Some(source) = &source {
            self.check_source_is_here(principal, source).await?;
        }
        let now = self.clock.now();
        let fresh = Agent {
            tenant: principal.tenant,
            id: AgentId::new(now, random()),
            name: spec.name.clone(),
            managed_by: ManagedBy::Api,
            generation: 1,
            replicas: spec.replicas,
            revision: None,
            suspended,
            delete: None,
            status: Status::pending(now),
            created_at: now,
            updated_at: now,
        };
        let given = Given {
            revision: RevisionId::new(now, random()),
            caller: principal.name.clone(),
            fresh,
            spec: Arc::new(spec),
            source,
            suspended,
        };
        let deployed = self.store.write(principal.tenant, given, |tx, given| {
            Box::pin(store_deployment(tx, given))
        });
        let deployed = deployed.await?;
        self.dirty.mark(deployed.agent.tenant, deployed.agent.id);
        Ok(deployed)
    }
}

impl App {
    async fn check_source_is_here(
        &self,
        principal: &Principal,
        source: &StoredSource,
    ) -> Result<()> {
        let digest = source
            .digest
            .parse()
            .map_err(|e| Error::invalid(format!("source: {e}")))?;
        match self.blobs.size(principal.tenant, &digest).await? {
            Some(_) => Ok(()),
            None => Err(Error::not_found("source; upload it again", &source.digest)),
        }
    }
}

struct Given {
    revision: RevisionId,
    caller: String,
    fresh: Agent,
    spec: Arc<AgentSpec>,
    source: Option<StoredSource>,
    suspended: bool,
}

async fn store_deployment(tx: &mut Tx, given: &Given) -> Result<Deployed> {
    let mut agent = match agents::by_name(tx, &given.spec.name).await? {
        Some(agent) => {
            deployable(&agent)?;
            agent
        }
        None => {
            agents::insert(tx, &given.fresh).await?;
            given.fresh.clone()
        }
    };
    let revision = match &given.source {
        Some(source) => {
            note_source(tx, &agent, given, source).await?;
            let current = is_current(tx, &agent, &given.spec, source, given.suspended).await?;
            if current.is_some() {
                return Ok(Deployed {
                    agent,
                    revision: current,
                    changed: false,
                });
            }
            let revision = store_revision(tx, &agent, given, source).await?;
            agent.revision = Some(revision.id);
            Some(revision)
        }
        None => None,
    };
    agent.replicas = given.spec.replicas;
    agent.suspended = given.suspended;
    store_deployed(tx, &mut agent, given, revision.as_ref()).await?;
    Ok(Deployed {
        agent,
        revision,
        changed: true,
    })
}

async fn note_source(
    tx: &mut Tx,
    agent: &Agent,
    given: &Given,
    source: &StoredSource,
) -> Result<()> {
    let stored = sources::Source {
        tenant: agent.tenant,
        digest: source.digest.clone(),
        size_bytes: source.bytes,
        created_at: given.fresh.created_at,
    };
    Ok(sources::put(tx, &stored).await?)
}

async fn store_revision(
    tx: &mut Tx,
    agent: &Agent,
    given: &Given,
    source: &StoredSource,
) -> Result<Revision> {
    let key = build_key(&source.digest, &given.spec.build());
    forget_failed_builds(tx, &key).await?;
    let mut revision = Revision {
        tenant: agent.tenant,
        id: given.revision,
        agent: agent.id,
        number: 0,
        spec: (*given.spec).clone(),
        source_digest: source.digest.clone(),
        source_bytes: source.bytes,
        build_key: key,
        created_at: given.fresh.created_at,
        created_by: given.caller.clone(),
    };
    revision.number = revisions::insert(tx, &revision).await?;
    Ok(revision)
}

/// Writes the agent as deployed, and says so in the log.
async fn store_deployed(
    tx: &mut Tx,
    agent: &mut Agent,
    given: &Given,
    revision: Option<&Revision>,
) -> Result<()> {
    let (now, expected) = (given.fresh.created_at, agent.generation);
    agent.generation = expected + 1;
    agent.updated_at = now;
    if !agents::update(tx, agent, expected).await? {
        return Err(Error::new(
            Code::Conflict,
            "the agent was changed at the same moment; deploy again",
        ));
    }
    let message = match revision {
        Some(revision) => format!(
            "revision {} was deployed by {}",
            revision.number, given.caller
        ),
        None => format!("suspended by {}", given.caller),
    };
    let data = serde_json::json!({
        "revision": revision.map(|r| r.id),
        "number": revision.map(|r| r.number),
        "generation": agent.generation,
    });
    let entry = agent_event(now, agent.id, "deployed", &message, &data);
    events::append(tx, &entry).await?;
    Ok(())
}

/// The current revision, when deploying would make another one just like it and it has not failed.
async fn is_current(
    tx: &mut Tx,
    agent: &Agent,
    spec: &AgentSpec,
    source: &StoredSource,
    suspended: bool,
) -> Result<Option<Revision>> {
    let Some(id) = agent.revision else {
        return Ok(None);
    };
    let current = revisions::get(tx, id).await?;
    let failed = agent.status.phase == Phase::Failed;
    Ok(current.filter(|r| {
        !failed
            && r.source_digest == source.digest
            && r.spec == *spec
            && agent.suspended == suspended
            && agent.replicas == spec.replicas
    }))
}

fn deployable(agent: &Agent) -> Result<()> {
    if agent.managed_by != ManagedBy::Api {
        let message = format!(
            "agent `{}` is managed by {}; change it there",
            agent.name, agent.managed_by
        );
        return Err(Error::new(Code::ManagedElsewhere, message));
    }
    if agent.delete.is_some() {
        let message = format!(
            "agent `{}` is being deleted; deploy again once it is gone",
            agent.name
        );
        return Err(Error::new(Code::Conflict, message));
    }
    Ok(())
}
