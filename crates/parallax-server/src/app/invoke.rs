//! Attached calls: held in memory, cancelled when the caller goes away.

use std::sync::Arc;
use std::time::Duration;

use parallax_core::agent::Agent;
use parallax_core::error::{Code, Error, Result};
use parallax_core::id::{TaskId, TenantId};
use parallax_core::key::{Principal, Scope};
use parallax_core::name::Name;
use parallax_core::task::{Outcome, Payload, TaskContext};
use parallax_store::{StoreError, agents, instances};
use parallax_telemetry::trace::{CallNames, CallSpan};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::App;
use crate::auth::require;
use crate::clock::random;
use crate::dispatch::{Call, CallDeadline, Group, Sink};

/// Longest capability name that is looked at.
const MAX_CAPABILITY: usize = 128;

/// What a caller asks for.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The agent's name or id.
    pub agent: String,
    pub capability: String,
    pub input: Payload,
    /// `None` or zero: the server's default.
    pub deadline: Option<Duration>,
    pub context: TaskContext,
}

/// An attached call that is under way. Dropping it cancels the call.
pub struct Attached {
    pub task: TaskId,
    reply: oneshot::Receiver<Outcome>,
    guard: AbandonGuard,
}

struct AbandonGuard {
    group: Arc<Group>,
    task: TaskId,
    grace: Duration,
    done: bool,
}

impl Drop for AbandonGuard {
    fn drop(&mut self) {
        if !self.done {
            self.group.abandon(self.task, self.grace, Instant::now());
        }
    }
}

impl Attached {
    /// Waits for the outcome. There always is one: the deadline sees to that.
    pub async fn outcome(mut self) -> Outcome {
        let outcome = (&mut self.reply).await;
        self.guard.done = true;
        outcome.unwrap_or_else(|_| {
            Outcome::problem(
                Code::ShuttingDown,
                "the server stopped before the agent answered",
            )
        })
    }
}

impl App {
    /// Begins an attached call.
    ///
    /// # Errors
    /// `agent_unavailable`, `capability_unknown`, `resource_exhausted`, `not_found`, and what is
    /// wrong with the request.
    pub async fn invoke(&self, principal: &Principal, request: Invocation) -> Result<Attached> {
        require(principal, Scope::Invoke)?;
        let name = self.callee(principal.tenant, &request.agent).await?;
        let call = self.call(principal, name, request)?;
        let (reply, outcome) = oneshot::channel();
        let group = self.submit_attached(&call, Sink::Reply(reply)).await?;
        let guard = AbandonGuard {
            group,
            task: call.id,
            grace: self.limits.cancel_grace,
            done: false,
        };
        Ok(Attached {
            task: call.id,
            reply: outcome,
            guard,
        })
    }

    /// Hands an attached call to its agent's group; the caller's sink gets the outcome.
    ///
    /// # Errors
    /// As [`Self::invoke`]; the sink is dropped then.
    pub async fn submit_attached(&self, call: &Arc<Call>, sink: Sink) -> Result<Arc<Group>> {
        let refused = match self.directory.find(call.tenant, &call.agent) {
            Some(group) => match group.submit(Arc::clone(call), 1, sink) {
                Ok(()) => return Ok(group),
                Err(refused) => refused.error,
            },
            None => Error::new(
                Code::AgentUnavailable,
                format!("no instance of agent `{}` is connected", call.agent),
            ),
        };
        if refused.code == Code::AgentUnavailable {
            return Err(self.explain_absence(call.tenant, &call.agent).await);
        }
        Err(refused)
    }

    /// Checks a request and makes the call that is shared by its attempts.
    ///
    /// # Errors
    /// `invalid_request` and `too_large`.
    pub fn call(
        &self,
        principal: &Principal,
        agent: Name,
        request: Invocation,
    ) -> Result<Arc<Call>> {
        if request.capability.is_empty() || request.capability.len() > MAX_CAPABILITY {
            return Err(Error::invalid(format!(
                "`capability` must have 1 to {MAX_CAPABILITY} bytes"
            )));
        }
        request.input.check_size()?;
        let asked = request
            .deadline
            .filter(|d| !d.is_zero())
            .unwrap_or(self.limits.default_deadline);
        if asked > self.limits.max_deadline {
            let most = self.limits.max_deadline.as_millis();
            return Err(Error::invalid(format!(
                "`deadline_ms` may be at most {most}"
            )));
        }
        let now = self.clock.now();
        let id = TaskId::new(now, random());
        let mut context = TaskContext {
            message_id: id.to_string(),
            caller: principal.name.clone(),
            ..request.context
        };
        let names = CallNames {
            agent: agent.as_str(),
            capability: &request.capability,
            task: &context.message_id,
        };
        let span = CallSpan::begin(names, &mut context.traceparent, &mut context.tracestate);
        Ok(Arc::new(Call {
            tenant: principal.tenant,
            id,
            agent,
            capability: request.capability,
            input: request.input,
            idempotency_key: id.to_string(),
            deadline: Some(CallDeadline {
                at: Instant::now() + asked,
                unix_ms: now.plus(asked).unix_millis(),
            }),
            context,
            span,
        }))
    }

    /// The name behind an id or a name. A name needs no look-up: whether anyone answers to it is
    /// seen when the call is sent.
    ///
    /// # Errors
    /// `not_found` for an unknown id, `invalid_request` for what is neither.
    pub async fn callee(&self, tenant: TenantId, agent: &str) -> Result<Name> {
        if !agent.starts_with("agt_") {
            return agent
                .parse()
                .map_err(|e| Error::invalid(format!("`agent`: {e}")));
        }
        let id = agent
            .parse()
            .map_err(|e| Error::invalid(format!("`agent`: {e}")))?;
        let mut tx = self.store.read(tenant).await?;
        let found = agents::get(&mut tx, id).await?;
        Ok(found.ok_or_else(|| Error::not_found("agent", agent))?.name)
    }

    /// Says why nobody answers to a name: unknown, or hosted and not up, with its status. Just after
    /// a start nobody can say who will not come back.
    pub(super) async fn explain_absence(&self, tenant: TenantId, name: &Name) -> Error {
        let looked_up = async {
            let mut tx = self.store.read(tenant).await?;
            let agent = agents::by_name(&mut tx, name).await?;
            let returning =
                self.has_just_started() && instances::any_before(&mut tx, self.started_at).await?;
            Ok::<_, StoreError>((agent, returning))
        };
        let (agent, returning) = match looked_up.await {
            Ok(found) => found,
            Err(error) => return error.into(),
        };
        let absence = match agent {
            Some(agent) => absence(&agent, returning),
            None if returning => {
                format!("no instance of `{name}` is here yet, and none is deployed")
            }
            None => {
                let message = format!(
                    "no agent `{name}` in this tenant: none is deployed and none is connected under this name"
                );
                return Error::new(Code::NotFound, message);
            }
        };
        if !returning {
            return Error::new(Code::AgentUnavailable, absence);
        }
        let message = format!(
            "the server was started a moment ago and instances are reconnecting; try again in a few seconds ({absence})"
        );
        Error::new(Code::AgentUnavailable, message)
    }
}

fn absence(agent: &Agent, returning: bool) -> String {
    let status = &agent.status;
    let reason = status.reason.map(|reason| format!(" ({reason})"));
    let message = Some(&status.message).filter(|message| !message.is_empty());
    format!(
        "agent `{}` has no connected instance; it {} {}{}{}",
        agent.name,
        if returning { "was" } else { "is" },
        status.phase,
        reason.unwrap_or_default(),
        message.map_or_else(String::new, |message| format!(": {message}"))
    )
}
