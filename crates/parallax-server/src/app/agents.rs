//! Hosted agents: reading, scaling, redeploying, deleting.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parallax_core::agent::{Agent, Deletion, MAX_REPLICAS, ManagedBy, Revision};
use parallax_core::build::Build;
use parallax_core::error::{Code, Error, Result};
use parallax_core::id::{AgentId, RevisionId};
use parallax_core::key::{Principal, Scope};
use parallax_core::manifest::Language;
use parallax_core::name::Name;
use parallax_core::replica::Replica;
use parallax_core::status::Phase;
use parallax_core::time::Timestamp;
use parallax_store::{Listed, Page, Tx, agents, builds, events, replicas, revisions};

use super::events::agent_event;
use super::{App, Receipt};
use crate::auth::require;
use crate::clock::random;
use crate::hosts::Usage;

/// Builds of an agent that its status looks back on.
const BUILDS_SHOWN: u32 = 10;

/// An agent with the revision that is wanted of it.
#[derive(Debug)]
pub struct AgentSummary {
    pub agent: Agent,
    pub revision: Option<Revision>,
    /// What the spec says; where it leaves that to detection, what a build has found.
    pub language: Option<Language>,
}

/// An agent with what its status is made of.
#[derive(Debug)]
pub struct AgentDetail {
    pub summary: AgentSummary,
    pub replicas: Vec<ReplicaDetail>,
    pub builds: Vec<Build>,
}

/// A replica with what is only known live.
#[derive(Debug)]
pub struct ReplicaDetail {
    pub replica: Replica,
    /// Whether its agent is connected now.
    pub registered: bool,
    /// When it was last heard of, where it was connected and is not.
    pub lost_at: Option<Timestamp>,
    /// Whether its host is; what is shown is what it last said.
    pub host_connected: bool,
    /// Absent while its host is away, and where nothing was measured.
    pub usage: Option<Usage>,
    /// Tasks it was given since this server started.
    pub requests: u64,
    pub in_flight: u32,
}

/// What a change leaves to be said in the log.
struct Change {
    kind: &'static str,
    message: String,
}

impl App {
    /// The agent of this id or name, without its replicas.
    ///
    /// # Errors
    /// `not_found`, `forbidden` without the scope.
    pub async fn find_agent(
        &self,
        principal: &Principal,
        scope: Scope,
        agent: &str,
    ) -> Result<Agent> {
        require(principal, scope)?;
        let mut tx = self.store.read(principal.tenant).await?;
        find(&mut tx, agent).await
    }

    /// Agents by name.
    ///
    /// # Errors
    /// `forbidden` without `read`.
    pub async fn list_agents(
        &self,
        principal: &Principal,
        phase: Option<Phase>,
        page: &Page,
    ) -> Result<Listed<AgentSummary>> {
        require(principal, Scope::Read)?;
        let mut tx = self.store.read(principal.tenant).await?;
        let Listed { mut items, more } = agents::list(&mut tx, phase, page).await?;
        items.iter_mut().for_each(|agent| self.date(agent));
        let items = summaries(&mut tx, items).await?;
        Ok(Listed { items, more })
    }

    /// One agent, by id or name.
    ///
    /// # Errors
    /// `not_found`, `forbidden` without `read`.
    pub async fn agent(&self, principal: &Principal, agent: &str) -> Result<AgentDetail> {
        require(principal, Scope::Read)?;
        let mut tx = self.store.read(principal.tenant).await?;
        let mut agent = find(&mut tx, agent).await?;
        self.date(&mut agent);
        let summary = summary(&mut tx, agent).await?;
        let agent = &summary.agent;
        let rows = replicas::list_for_agent(&mut tx, agent.id).await?;
        let builds = builds::list_for_agent(&mut tx, agent.id, BUILDS_SHOWN).await?;
        drop(tx);
        let replicas = rows
            .into_iter()
            .map(|replica| self.replica_detail(&agent.name, replica))
            .collect();
        Ok(AgentDetail {
            summary,
            replicas,
            builds,
        })
    }

    /// How many of the tenant's agents are in which phase.
    ///
    /// # Errors
    /// `forbidden` without `read`.
    pub async fn count_agents(&self, principal: &Principal) -> Result<Vec<agents::Count>> {
        require(principal, Scope::Read)?;
        let mut tx = self.store.read(principal.tenant).await?;
        let mut counts = agents::count(&mut tx).await?;
        let counted_as_ready = |phase| matches!(phase, Phase::Ready | Phase::Degraded);
        if !self.looked_at_all.load(Ordering::Acquire) {
            counts
                .iter_mut()
                .filter(|count| counted_as_ready(count.phase))
                .for_each(|count| count.unconfirmed = true);
        }
        Ok(counts)
    }

    /// Marks a stored status as one of before, until this server has looked at every agent itself.
    fn date(&self, agent: &mut Agent) {
        if !self.looked_at_all.load(Ordering::Acquire) {
            agent.status.carry_over();
        }
    }

    fn replica_detail(&self, name: &Name, replica: Replica) -> ReplicaDetail {
        let host_connected = self.hosts.is_connected(replica.host);
        let found = self.directory.replica(replica.tenant, name, replica.id);
        let (in_flight, requests) = found
            .as_ref()
            .map_or((0, 0), |(group, slot)| group.load(*slot));
        ReplicaDetail {
            registered: found
                .as_ref()
                .is_some_and(|(group, _)| group.is_registered(replica.id)),
            lost_at: self.lost_at(&replica),
            host_connected,
            // What was measured before its host left says nothing of now.
            usage: self.hosts.usage(replica.id).filter(|_| host_connected),
            requests,
            in_flight,
            replica,
        }
    }

    /// Revisions of an agent, newest first.
    ///
    /// # Errors
    /// As [`Self::agent`].
    pub async fn list_revisions(
        &self,
        principal: &Principal,
        agent: &str,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Listed<Revision>> {
        require(principal, Scope::Read)?;
        let mut tx = self.store.read(principal.tenant).await?;
        let agent = find(&mut tx, agent).await?;
        Ok(revisions::list(&mut tx, agent.id, before, limit).await?)
    }

    /// Sets how many replicas are wanted.
    ///
    /// # Errors
    /// `invalid_request` beyond [`MAX_REPLICAS`]; `conflict` while it is being deleted.
    pub async fn scale_agent(
        &self,
        principal: &Principal,
        agent: &str,
        wanted: u32,
        receipt: Receipt<AgentSummary>,
    ) -> Result<AgentSummary> {
        require(principal, Scope::Deploy)?;
        if wanted > MAX_REPLICAS {
            return Err(Error::invalid(format!(
                "`replicas` may be at most {MAX_REPLICAS}"
            )));
        }
        self.edit_agent(principal, agent, receipt, move |agent| {
            if agent.delete.is_some() {
                let message = format!("agent `{}` is being deleted", agent.name);
                return Err(Error::new(Code::Conflict, message));
            }
            let message = format!("scaled from {} to {wanted}", agent.replicas);
            agent.replicas = wanted;
            Ok(Change {
                kind: "scaled",
                message,
            })
        })
        .await
    }

    /// Makes a new revision of the same source and settings; replicas are replaced one by one.
    ///
    /// # Errors
    /// `conflict` when nothing was deployed yet.
    pub async fn redeploy_agent(
        &self,
        principal: &Principal,
        agent: &str,
        receipt: Receipt<AgentSummary>,
    ) -> Result<AgentSummary> {
        require(principal, Scope::Deploy)?;
        let now = self.clock.now();
        let given = Redeployment {
            agent: agent.to_owned(),
            revision: RevisionId::new(now, random()),
            caller: principal.name.clone(),
            now,
            receipt,
        };
        let changed = self.store.write(principal.tenant, given, |tx, given| {
            Box::pin(async move {
                let changed = redeploy(tx, given).await?;
                given.receipt.keep(tx, &changed).await?;
                Ok::<_, Error>(changed)
            })
        });
        let changed = changed.await?;
        self.dirty.mark(changed.agent.tenant, changed.agent.id);
        Ok(changed)
    }

    /// Begins a deletion: nothing new is sent to the agent, running tasks have `drain` to end,
    /// then everything of it goes.
    ///
    /// # Errors
    /// `not_found`, `managed_elsewhere`.
    pub async fn delete_agent(
        &self,
        principal: &Principal,
        agent: &str,
        drain: Duration,
        receipt: Receipt<AgentSummary>,
    ) -> Result<AgentSummary> {
        require(principal, Scope::Deploy)?;
        let deletion = Deletion {
            asked_at: self.clock.now(),
            drain_until: self.clock.now().plus(drain),
        };
        let deleting = self.edit_agent(principal, agent, receipt, move |agent| {
            if agent.delete.is_none() {
                agent.delete = Some(deletion);
            }
            Ok(Change {
                kind: "deleting",
                message: "deletion was asked for".to_owned(),
            })
        });
        deleting.await
    }

    async fn edit_agent(
        &self,
        principal: &Principal,
        agent: &str,
        receipt: Receipt<AgentSummary>,
        change: impl Fn(&mut Agent) -> Result<Change> + Send + Sync + 'static,
    ) -> Result<AgentSummary> {
        let now = self.clock.now();
        let change = std::sync::Arc::new(change);
        let given = (agent.to_owned(), receipt);
        let changed = self
            .store
            .write(principal.tenant, given, move |tx, (agent, receipt)| {
                let change = std::sync::Arc::clone(&change);
                Box::pin(async move {
                    let mut agent = find_own(tx, agent).await?;
                    let said = change(&mut agent)?;
                    store_change(tx, &mut agent, now, &said).await?;
                    let changed = summary(tx, agent).await?;
                    receipt.keep(tx, &changed).await?;
                    Ok::<_, Error>(changed)
                })
            });
        let changed = changed.await?;
        self.dirty.mark(changed.agent.tenant, changed.agent.id);
        Ok(changed)
    }
}

struct Redeployment {
    agent: String,
    revision: RevisionId,
    caller: String,
    now: Timestamp,
    receipt: Receipt<AgentSummary>,
}

async fn redeploy(tx: &mut Tx, given: &Redeployment) -> Result<AgentSummary> {
    let mut agent = find_own(tx, &given.agent).await?;
    let current = match agent.revision {
        Some(current) => revisions::get(tx, current).await?,
        None => None,
    };
    let Some(current) = current else {
        let message = "nothing was deployed yet; there is no source to redeploy";
        return Err(Error::new(Code::Conflict, message));
    };
    forget_failed_builds(tx, &current.build_key).await?;
    let fresh = Revision {
        id: given.revision,
        created_at: given.now,
        created_by: given.caller.clone(),
        ..current
    };
    let number = revisions::insert(tx, &fresh).await?;
    agent.revision = Some(given.revision);
    let said = Change {
        kind: "redeployed",
        message: format!("revision {number} of the same source"),
    };
    store_change(tx, &mut agent, given.now, &said).await?;
    summary(tx, agent).await
}

/// An agent as it is shown.
pub(crate) async fn summary(tx: &mut Tx, agent: Agent) -> Result<AgentSummary> {
    let mut one = summaries(tx, vec![agent]).await?;
    Ok(one.pop().expect("there are as many as there are agents"))
}

/// These agents, which are in the order of their names, as they are shown.
async fn summaries(tx: &mut Tx, listed: Vec<Agent>) -> Result<Vec<AgentSummary>> {
    let (Some(first), Some(last)) = (listed.first(), listed.last()) else {
        return Ok(Vec::new());
    };
    let names = (&first.name, &last.name);
    let wanted = revisions::wanted_between(tx, names).await?;
    let mut wanted: HashMap<RevisionId, Revision> = wanted.into_iter().map(|r| (r.id, r)).collect();
    let plans = builds::plans_between(tx, names).await?;
    let found: HashMap<String, Language> = plans
        .into_iter()
        .filter_map(|(key, plan)| Some((key, planned_language(&plan)?)))
        .collect();
    let summary = |agent: Agent| {
        let revision = agent.revision.and_then(|id| wanted.remove(&id));
        let language = revision.as_ref().and_then(|revision| {
            let detected = || found.get(&revision.build_key).copied();
            revision.spec.language.or_else(detected)
        });
        AgentSummary {
            agent,
            revision,
            language,
        }
    };
    Ok(listed.into_iter().map(summary).collect())
}

/// The language in a plan as its host reported it; `None` for one that this version cannot read.
fn planned_language(plan_json: &str) -> Option<Language> {
    #[derive(serde::Deserialize)]
    struct Planned {
        language: Language,
    }
    let planned: Planned = serde_json::from_str(plan_json).ok()?;
    Some(planned.language)
}

/// The agent of this id or name.
pub(crate) async fn find(tx: &mut Tx, agent: &str) -> Result<Agent> {
    let found = if agent.starts_with(AgentId::PREFIX) && agent.contains('_') {
        agents::get(
            tx,
            agent.parse().map_err(|e| Error::invalid(format!("{e}")))?,
        )
        .await?
    } else {
        let name: Name = agent.parse().map_err(|e| Error::invalid(format!("{e}")))?;
        agents::by_name(tx, &name).await?
    };
    found.ok_or_else(|| Error::not_found("agent", agent))
}

async fn find_own(tx: &mut Tx, agent: &str) -> Result<Agent> {
    let agent = find(tx, agent).await?;
    if agent.managed_by != ManagedBy::Api {
        let message = format!(
            "agent `{}` is managed by {}; change it there",
            agent.name, agent.managed_by
        );
        return Err(Error::new(Code::ManagedElsewhere, message));
    }
    Ok(agent)
}

async fn store_change(tx: &mut Tx, agent: &mut Agent, now: Timestamp, said: &Change) -> Result<()> {
    let expected = agent.generation;
    agent.generation += 1;
    agent.updated_at = now;
    if !agents::update(tx, agent, expected).await? {
        return Err(Error::new(
            Code::Conflict,
            "the agent was changed at the same moment; look at it and try again",
        ));
    }
    let data = serde_json::json!({ "generation": agent.generation });
    events::append(
        tx,
        &agent_event(now, agent.id, said.kind, &said.message, &data),
    )
    .await?;
    Ok(())
}

/// A build that failed is tried again when somebody deploys the same source anew.
pub(crate) async fn forget_failed_builds(tx: &mut Tx, key: &str) -> Result<()> {
    use parallax_core::build::BuildPhase;
    for build in builds::list_for_key(tx, key).await? {
        if matches!(build.phase, BuildPhase::Failed | BuildPhase::Cancelled) {
            builds::delete(tx, build.id).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
