//! `/api/agents`: reading and changing hosted agents.

#![expect(
    unused_qualifications,
    reason = "utoipa's derive qualifies what it need not"
)]

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use parallax_api::Page;
use parallax_api::agents::{
    AgentView, Condition, ReplicaCounts, RevisionRef, RevisionView, ScaleRequest, Status,
};
use parallax_core::agent::{Agent, Revision};
use parallax_core::error::{Code, Error};
use parallax_core::key::{Principal, Scope};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::authenticate::Caller;
use super::body::Json;
use super::idempotency::{Idempotency, Kept, Reply};
use super::problem::Failure;
use super::query::{self, Id, Params};
use super::state::HandlerState;
use crate::app::agents::AgentSummary;

/// How long a deletion waits for running tasks when the caller does not say.
const DEFAULT_DRAIN: Duration = Duration::from_secs(30);
/// Longest drain: an hour, after which somebody should have looked.
const MAX_DRAIN_MS: u64 = 3_600_000;

pub(crate) fn routes() -> OpenApiRouter<HandlerState> {
    OpenApiRouter::new()
        .routes(routes!(list_agents))
        .routes(routes!(get_agent, delete_agent))
        .routes(routes!(scale_agent))
        .routes(routes!(redeploy_agent))
        .routes(routes!(rollback_agent))
        .routes(routes!(suspend_agent))
        .routes(routes!(resume_agent))
        .routes(routes!(list_revisions))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AgentsQuery {
    /// Most items: 1 to 500, 100 when absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Only agents in this phase, such as `Ready`.
    phase: Option<String>,
}

/// Hosted agents by name.
#[utoipa::path(get, path = "/api/agents", tag = "agents", params(AgentsQuery),
    responses((status = 200, body = Page<AgentView>)))]
async fn list_agents(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    Params(params): Params<AgentsQuery>,
) -> Result<axum::Json<Page<AgentView>>, Failure> {
    let phase = params.phase.map(|text| text.parse()).transpose();
    let phase = phase.map_err(|e| Error::invalid(format!("`phase`: {e}")))?;
    let page = query::page(params.limit, params.cursor.as_deref())?;
    let listed = state.app.list_agents(&principal, phase, &page).await?;
    Ok(query::listed(
        listed,
        |listed| listed.agent.name.to_string(),
        |listed| view(&listed),
    ))
}

/// One agent.
#[utoipa::path(get, path = "/api/agents/{id}", tag = "agents",
    params(("id" = String, Path, description = "The agent's id or name")),
    responses((status = 200, body = AgentView)))]
async fn get_agent(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    id: Id,
) -> Result<axum::Json<AgentView>, Failure> {
    let detail = state.app.agent(&principal, &id.0).await?;
    Ok(axum::Json(view(&detail.summary)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DeleteQuery {
    /// Milliseconds that running tasks have to end; 30 000 when absent, at most an hour.
    drain: Option<u64>,
}

/// Begins a deletion: nothing new is sent, running tasks may end, then everything of it goes.
#[utoipa::path(delete, path = "/api/agents/{id}", tag = "agents",
    params(("id" = String, Path, description = "The agent's id or name"), DeleteQuery),
    responses((status = 202, body = AgentView)))]
async fn delete_agent(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    id: Id,
    Params(params): Params<DeleteQuery>,
    once: Idempotency,
) -> Result<Response, Failure> {
    let drain = match params.drain {
        Some(ms) if ms > MAX_DRAIN_MS => {
            return Err(Error::invalid(format!("`drain` may be at most {MAX_DRAIN_MS} ms")).into());
        }
        Some(ms) => Duration::from_millis(ms),
        None => DEFAULT_DRAIN,
    };
    let (app, caller) = (Arc::clone(&state.app), principal.clone());
    let work = async move |receipt| {
        let deleting = app.delete_agent(&caller, &id.0, drain, receipt).await?;
        Ok(accepted(&deleting))
    };
    let request = drain.as_millis().to_be_bytes();
    let kept = Kept::Answer(accepted);
    once.run(&state, &principal, &[&request], kept, work).await
}

/// Sets how many replicas are wanted.
#[utoipa::path(put, path = "/api/agents/{id}/scale", tag = "agents",
    params(("id" = String, Path, description = "The agent's id or name")),
    request_body = ScaleRequest, responses((status = 202, body = AgentView)))]
async fn scale_agent(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    id: Id,
    once: Idempotency,
    body: Json<ScaleRequest>,
) -> Result<Response, Failure> {
    let ScaleRequest {
        replicas,
        min,
        max,
        target,
    } = body.value;
    let replicas = match (replicas, min.or(max).or(target)) {
        (Some(replicas), None) => replicas,
        (None, None) => return Err(Error::invalid("send `replicas`").into()),
        (_, Some(_)) => {
            require_agent(&state, &principal, &id).await?;
            return Err(not_yet(
                "scaling between `min` and `max`; send `replicas` instead",
            ));
        }
    };
    let (app, caller) = (Arc::clone(&state.app), principal.clone());
    let work = async move |receipt| {
        let scaled = app.scale_agent(&caller, &id.0, replicas, receipt).await?;
        Ok(accepted(&scaled))
    };
    let kept = Kept::Answer(accepted);
    once.run(&state, &principal, &[&body.bytes], kept, work)
        .await
}

/// Makes a new revision of the same source and settings; replicas are replaced one by one.
#[utoipa::path(post, path = "/api/agents/{id}/redeploy", tag = "agents",
    params(("id" = String, Path, description = "The agent's id or name")),
    responses((status = 202, body = AgentView)))]
async fn redeploy_agent(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    id: Id,
    once: Idempotency,
) -> Result<Response, Failure> {
    let (app, caller) = (Arc::clone(&state.app), principal.clone());
    let work = async move |receipt| {
        let redeployed = app.redeploy_agent(&caller, &id.0, receipt).await?;
        Ok(accepted(&redeployed))
    };
    let kept = Kept::Answer(accepted);
    once.run(&state, &principal, &[], kept, work).await
}

/// Goes back to an earlier revision. Not in this release.
#[utoipa::path(post, path = "/api/agents/{id}/rollback", tag = "agents",
    params(("id" = String, Path, description = "The agent's id or name")),
    responses((status = 501, body = parallax_api::Problem,
        content_type = "application/problem+json")))]
async fn rollback_agent(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    id: Id,
) -> Result<(), Failure> {
    require_agent(&state, &principal, &id).await?;
    Err(not_yet("rolling back; deploy the earlier source instead"))
}

/// Stops every replica and keeps the agent. Not in this release.
#[utoipa::path(post, path = "/api/agents/{id}/suspend", tag = "agents",
    params(("id" = String, Path, description = "The agent's id or name")),
    responses((status = 501, body = parallax_api::Problem,
        content_type = "application/problem+json")))]
async fn suspend_agent(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    id: Id,
) -> Result<(), Failure> {
    require_agent(&state, &principal, &id).await?;
    Err(not_yet("suspending; scale to 0 instead"))
}

/// Ends a suspension. Not in this release.
#[utoipa::path(post, path = "/api/agents/{id}/resume", tag = "agents",
    params(("id" = String, Path, description = "The agent's id or name")),
    responses((status = 501, body = parallax_api::Problem,
        content_type = "application/problem+json")))]
async fn resume_agent(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    id: Id,
) -> Result<(), Failure> {
    require_agent(&state, &principal, &id).await?;
    Err(not_yet(
        "resuming; deploy it without `suspended`, or scale it up",
    ))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RevisionsQuery {
    /// Most items: 1 to 500, 100 when absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before: a revision's number.
    cursor: Option<u64>,
}

/// Revisions of an agent, newest first.
#[utoipa::path(get, path = "/api/agents/{id}/revisions", tag = "agents",
    params(("id" = String, Path, description = "The agent's id or name"), RevisionsQuery),
    responses((status = 200, body = Page<RevisionView>)))]
async fn list_revisions(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    id: Id,
    Params(params): Params<RevisionsQuery>,
) -> Result<axum::Json<Page<RevisionView>>, Failure> {
    let limit = query::page(params.limit, None)?.limit;
    let listed = state
        .app
        .list_revisions(&principal, &id.0, params.cursor, limit)
        .await?;
    Ok(query::listed(
        listed,
        |revision| revision.number.to_string(),
        revision_view,
    ))
}

/// What is not there yet is not there for the caller's own agents only: another tenant's answers
/// 404 like everywhere.
async fn require_agent(
    state: &HandlerState,
    principal: &Principal,
    id: &Id,
) -> Result<(), Failure> {
    state
        .app
        .find_agent(principal, Scope::Deploy, &id.0)
        .await?;
    Ok(())
}

fn not_yet(what: &str) -> Failure {
    let message = format!("this release does not do that yet: {what}");
    Error::new(Code::NotImplemented, message).into()
}

fn accepted(agent: &AgentSummary) -> Reply {
    Reply::json(StatusCode::ACCEPTED, &view(agent))
}

/// What the API shows of an agent.
pub(crate) fn view(summary: &AgentSummary) -> AgentView {
    let AgentSummary {
        agent,
        revision,
        language,
    } = summary;
    let revision = revision.as_ref();
    AgentView {
        id: agent.id,
        name: agent.name.to_string(),
        language: language.map(|language| language.to_string()),
        managed_by: agent.managed_by.to_string(),
        generation: agent.generation,
        replicas: agent.replicas,
        suspended: agent.suspended,
        revision: agent.revision.map(|id| RevisionRef {
            id,
            number: revision.map(|r| r.number),
            source_digest: revision.map(|r| r.source_digest.clone()),
        }),
        status: status(agent),
        created_at: agent.created_at.into(),
        updated_at: agent.updated_at.into(),
    }
}

pub(crate) fn status(agent: &Agent) -> Status {
    let status = &agent.status;
    let conditions = status.conditions.iter().map(|c| Condition {
        kind: c.kind.clone(),
        holds: c.holds,
        message: c.message.clone(),
    });
    Status {
        phase: status.phase,
        reason: status.reason,
        message: status.message.clone(),
        since: status.since.into(),
        observed_generation: status.observed_generation,
        replicas: ReplicaCounts {
            desired: status.replicas.desired,
            ready: status.replicas.ready,
            unconfirmed: status.replicas.unconfirmed,
            updated: status.replicas.updated,
        },
        conditions: conditions.collect(),
    }
}

fn revision_view(revision: Revision) -> RevisionView {
    RevisionView {
        id: revision.id,
        number: revision.number,
        source_digest: revision.source_digest,
        source_bytes: revision.source_bytes,
        spec: revision.spec,
        created_at: revision.created_at.into(),
        created_by: revision.created_by,
    }
}
