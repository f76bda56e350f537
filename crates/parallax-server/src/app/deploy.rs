//! Deploying: a spec and a source become a revision.

use std::sync::Arc;

use parallax_core::agent::{Agent, MAX_REPLICAS, ManagedBy, Revision};
use parallax_core::build::build_key;
use parallax_core::error::{Code, Error, Result};
use parallax_core::id::{AgentId, RevisionId};
use parallax_core::key::{Principal, Scope};
use parallax_core::manifest::AgentSpec;
use parallax_core::status::{Phase, Status};
use parallax_store::{agents, events, revisions, sources};

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

struct Given {
    revision: RevisionId,
    caller: String,
    fresh: Agent,
    spec: Arc<AgentSpec>,
    source: Option<StoredSource>,
    suspended: bool,
}

async fn store_deployment(tx: &mut parallax_store::Tx, given: &Given) -> Result<Deployed> {
    let now = given.fresh.created_at;
    let (mut agent, expected) = match agents::by_name(tx, &given.spec.name).await? {
        Some(agent) => {
            deployable(&agent)?;
            let generation = agent.generation;
            (agent, generation)
        }
        None => {
            agents::insert(tx, &given.fresh).await?;
            (given.fresh.clone(), given.fresh.generation)
        }
    };
    let Some(source) = &given.source else {
        agent.suspended = true;
        return Ok(Deployed {
            agent,
            revision: None,
            changed: true,
        });
    };
    let stored = sources::Source {
        tenant: agent.tenant,
        digest: source.digest.clone(),
        size_bytes: source.bytes,
        created_at: now,
    };
    sources::put(tx, &stored).await?;
    if let Some(current) = is_current(tx, &agent, &given.spec, source, given.suspended).await? {
        return Ok(Deployed {
            agent,
            revision: Some(current),
            changed: false,
        });
    }
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
        created_at: now,
        created_by: given.caller.clone(),
    };
    revision.number = revisions::insert(tx, &revision).await?;
    agent.revision = Some(revision.id);
    agent.replicas = given.spec.replicas;
    agent.suspended = given.suspended;
    agent.generation = expected + 1;
    agent.updated_at = now;
    if !agents::update(tx, &agent, expected).await? {
        return Err(Error::new(
            Code::Conflict,
            "the agent was changed at the same moment; deploy again",
        ));
    }
    let message = format!(
        "revision {} was deployed by {}",
        revision.number, given.caller
    );
    let data = serde_json::json!({ "revision": revision.id, "number": revision.number, "generation": agent.generation });
    events::append(tx, &agent_event(now, agent.id, "deployed", &message, &data)).await?;
    Ok(Deployed {
        agent,
        revision: Some(revision),
        changed: true,
    })
}

/// The current revision, when deploying would make another one just like it and it has not failed.
async fn is_current(
    tx: &mut parallax_store::Tx,
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
