//! Deploying: a spec and a source become a revision.

use parallax_core::agent::{Agent, ManagedBy, Revision};
use parallax_core::build::build_key;
use parallax_core::deploy::{Change, Wanted};
use parallax_core::error::{Code, Error, Result};
use parallax_core::id::{AgentId, RevisionId, TenantId};
use parallax_core::key::{Principal, Scope};
use parallax_core::manifest::AgentSpec;
use parallax_core::status::Status;
use parallax_core::time::Timestamp;
use parallax_store::{Tx, agents, events, revisions, sources};

use super::agents::{AgentSummary, forget_failed_builds, summary};
use super::events::agent_event;
use super::{App, Receipt};
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
    /// The agent with the revision that is now wanted of it.
    pub summary: AgentSummary,
    /// Whether anything changed: the same spec and source again change nothing.
    pub changed: bool,
}

/// A deployment to carry out.
#[derive(Debug)]
pub struct Deployment {
    pub spec: AgentSpec,
    pub source: Option<StoredSource>,
    /// Registers the agent, or keeps it, and runs nothing.
    pub suspended: bool,
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
        wanted: Deployment,
        receipt: Receipt<Deployed>,
    ) -> Result<Deployed> {
        // No external agent may take the name between this look and the commit: see `admit`.
        let _naming = self.naming.write().await;
        self.check_deploy(principal, &wanted.spec).await?;
        if wanted.source.is_none() && !wanted.suspended {
            let message = "a deployment needs a `source` part (tar.gz), unless `suspended` is true";
            return Err(Error::invalid(message));
        }
        // Its blob must not be collected between this look and its first use.
        let _use = self.collecting.read().await;
        if let Some(source) = &wanted.source {
            self.check_source_is_here(principal, source).await?;
        }
        let now = self.clock.now();
        let given = Given {
            tenant: principal.tenant,
            agent: AgentId::new(now, random()),
            revision: RevisionId::new(now, random()),
            caller: principal.name.clone(),
            now,
            wanted,
            receipt,
        };
        let deployed = self.store.write(principal.tenant, given, |tx, given| {
            Box::pin(async move {
                let deployed = given.carry_out(tx).await?;
                given.receipt.keep(tx, &deployed).await?;
                Ok::<_, Error>(deployed)
            })
        });
        let deployed = deployed.await?;
        let agent = &deployed.summary.agent;
        self.dirty.mark(agent.tenant, agent.id);
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
    tenant: TenantId,
    /// For the agent, should it be a new one.
    agent: AgentId,
    /// For its revision, should there be a new one.
    revision: RevisionId,
    caller: String,
    now: Timestamp,
    wanted: Deployment,
    receipt: Receipt<Deployed>,
}

impl Given {
    async fn carry_out(&self, tx: &mut Tx) -> Result<Deployed> {
        let Deployment {
            spec,
            source,
            suspended,
        } = &self.wanted;
        let found = agents::by_name(tx, &spec.name).await?;
        let mut current = None;
        if let Some(agent) = &found {
            deployable(agent)?;
            if let Some(id) = agent.revision {
                current = revisions::get(tx, id).await?;
            }
        }
        let wanted = Wanted {
            spec,
            source_digest: source.as_ref().map(|source| source.digest.as_str()),
            suspended: *suspended,
        };
        let change = wanted.change(found.as_ref(), current.as_ref());
        let replicas = wanted.replicas(found.as_ref());
        if let Some(source) = source {
            self.note_source(tx, source).await?;
        }
        let mut agent = match found {
            Some(agent) => agent,
            None => self.insert_agent(tx, replicas).await?,
        };
        match (change, source) {
            (Change::Nothing, _) => {}
            (Change::Create | Change::Revision, Some(source)) => {
                current = Some(self.insert_revision(tx, &agent, source).await?);
            }
            (Change::Create | Change::Revision | Change::Settings, _) => {
                if let Some(current) = current.as_ref().filter(|_| !suspended) {
                    forget_failed_builds(tx, &current.build_key).await?;
                }
            }
        }
        if change != Change::Nothing {
            agent.revision = current.as_ref().map(|revision| revision.id);
            agent.replicas = replicas;
            agent.suspended = *suspended;
            self.update_agent(tx, &mut agent, change, current.as_ref())
                .await?;
        }
        Ok(Deployed {
            summary: summary(tx, agent).await?,
            changed: change != Change::Nothing,
        })
    }

    async fn insert_agent(&self, tx: &mut Tx, replicas: u32) -> Result<Agent> {
        let fresh = Agent {
            tenant: self.tenant,
            id: self.agent,
            name: self.wanted.spec.name.clone(),
            managed_by: ManagedBy::Api,
            generation: 1,
            replicas,
            revision: None,
            suspended: self.wanted.suspended,
            delete: None,
            status: Status::pending(self.now),
            created_at: self.now,
            updated_at: self.now,
        };
        agents::insert(tx, &fresh).await?;
        Ok(fresh)
    }

    async fn note_source(&self, tx: &mut Tx, source: &StoredSource) -> Result<()> {
        let stored = sources::Source {
            tenant: self.tenant,
            digest: source.digest.clone(),
            size_bytes: source.bytes,
            created_at: self.now,
        };
        Ok(sources::put(tx, &stored).await?)
    }

    async fn insert_revision(
        &self,
        tx: &mut Tx,
        agent: &Agent,
        source: &StoredSource,
    ) -> Result<Revision> {
        let spec = &self.wanted.spec;
        let key = build_key(&source.digest, &spec.build());
        forget_failed_builds(tx, &key).await?;
        let mut revision = Revision {
            tenant: agent.tenant,
            id: self.revision,
            agent: agent.id,
            number: 0,
            spec: spec.clone(),
            source_digest: source.digest.clone(),
            source_bytes: source.bytes,
            build_key: key,
            created_at: self.now,
            created_by: self.caller.clone(),
        };
        revision.number = revisions::insert(tx, &revision).await?;
        Ok(revision)
    }

    /// Writes the agent as deployed, and says so in the log.
    async fn update_agent(
        &self,
        tx: &mut Tx,
        agent: &mut Agent,
        change: Change,
        revision: Option<&Revision>,
    ) -> Result<()> {
        let expected = agent.generation;
        agent.generation = expected + 1;
        agent.updated_at = self.now;
        if !agents::update(tx, agent, expected).await? {
            return Err(Error::new(
                Code::Conflict,
                "the agent was changed at the same moment; deploy again",
            ));
        }
        let by = &self.caller;
        let number = revision.map(|revision| revision.number);
        let message = match (number, change) {
            (_, _) if agent.suspended => format!("suspended by {by}"),
            (Some(number), Change::Settings) => {
                let replicas = agent.replicas;
                format!("revision {number} was kept by {by}; {replicas} replicas are wanted")
            }
            (Some(number), _) => format!("revision {number} was deployed by {by}"),
            (None, _) => format!("registered by {by}"),
        };
        let data = serde_json::json!({
            "revision": revision.map(|r| r.id),
            "number": number,
            "generation": agent.generation,
        });
        let entry = agent_event(self.now, agent.id, "deployed", &message, &data);
        events::append(tx, &entry).await?;
        Ok(())
    }
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
