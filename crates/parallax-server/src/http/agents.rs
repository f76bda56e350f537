//! `/api/agents`: reading and changing hosted agents.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use parallax_api::Page;
use parallax_api::agents as api;
use parallax_core::agent::{Agent, Revision};
use parallax_core::build::Build;
use parallax_core::error::{Code, Error};
use parallax_core::replica::{ReplicaPhase, Want};
use parallax_core::status::{Phase, Status};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::authenticate::Caller;
use super::body::{Body, Query};
use super::gate::Gate;
use super::idempotency;
use super::problem::Failure;
use super::query::{Paging, page};
use crate::app::agents::{AgentDetail, ReplicaDetail};

/// How long running tasks have when an agent is deleted, unless `?drain=` says otherwise.
const DEFAULT_DRAIN: Duration = Duration::from_secs(30);
/// The longest drain.
const MAX_DRAIN_S: u64 = 3600;

pub(super) fn routes() -> OpenApiRouter<Gate> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get, delete))
        .routes(routes!(status))
        .routes(routes!(scale))
        .routes(routes!(revisions))
        .routes(routes!(metrics))
        .routes(routes!(redeploy))
        .routes(routes!(rollback))
        .routes(routes!(suspend))
        .routes(routes!(resume))
}

#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// At most 500; 100 when absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Only agents in this phase.
    phase: Option<String>,
}

/// Agents by name.
#[utoipa::path(get, path = "/api/agents", params(ListQuery), responses((status = 200, body = Page<api::AgentView>)), tag = "agents")]
async fn list(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<api::AgentView>>, Failure> {
    let phase: Option<Phase> = match &query.phase {
        Some(text) => Some(
            text.parse()
                .map_err(|e| Error::invalid(format!("`phase`: {e}")))?,
        ),
        None => None,
    };
    let paging = Paging {
        limit: query.limit,
        cursor: query.cursor,
    };
    let listed = gate
        .app
        .list_agents(&principal, phase, &paging.page()?)
        .await?;
    Ok(Json(page(
        listed,
        |agent| agent.name.to_string(),
        |agent| agent_view(&agent, None),
    )))
}

/// One agent, by id or name.
#[utoipa::path(get, path = "/api/agents/{id}", params(("id" = String, Path, description = "Id or name")), responses((status = 200, body = api::AgentView)), tag = "agents")]
async fn get(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Path(id): Path<String>,
) -> Result<Json<api::AgentView>, Failure> {
    let detail = gate.app.agent(&principal, &id).await?;
    Ok(Json(agent_view(&detail.agent, detail.revision.as_ref())))
}

/// How an agent is, with its replicas and builds.
#[utoipa::path(get, path = "/api/agents/{id}/status", params(("id" = String, Path, description = "Id or name")), responses((status = 200, body = api::StatusView)), tag = "agents")]
async fn status(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Path(id): Path<String>,
) -> Result<Json<api::StatusView>, Failure> {
    Ok(Json(status_view(gate.app.agent(&principal, &id).await?)))
}

/// Sets how many replicas are wanted.
#[utoipa::path(put, path = "/api/agents/{id}/scale", params(("id" = String, Path, description = "Id or name")), request_body = api::ScaleRequest, responses((status = 200, body = api::AgentView)), tag = "agents")]
async fn scale(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(body): Body<api::ScaleRequest>,
) -> Result<Response, Failure> {
    if body.min.is_some() || body.max.is_some() || body.target.is_some() {
        let message = "scaling between bounds comes with a later release; send `replicas`";
        return Err(Error::new(Code::NotImplemented, message).into());
    }
    let wanted = body
        .replicas
        .ok_or_else(|| Error::invalid("`replicas` is missing"))?;
    let route = format!("PUT /api/agents/{id}/scale {wanted}");
    idempotency::once(&gate, &principal, &headers, &route, async {
        let agent = gate.app.scale_agent(&principal, &id, wanted).await?;
        Ok((StatusCode::OK, agent_view(&agent, None)))
    })
    .await
}

/// A new revision of the same source.
#[utoipa::path(post, path = "/api/agents/{id}/redeploy", params(("id" = String, Path, description = "Id or name")), responses((status = 202, body = api::AgentView)), tag = "agents")]
async fn redeploy(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let route = format!("POST /api/agents/{id}/redeploy");
    idempotency::once(&gate, &principal, &headers, &route, async {
        let agent = gate.app.redeploy_agent(&principal, &id).await?;
        Ok((StatusCode::ACCEPTED, agent_view(&agent, None)))
    })
    .await
}

#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct DeleteQuery {
    /// Seconds that running tasks have to end; 30 when absent, at most 3600.
    drain: Option<u64>,
}

/// Stops an agent and removes everything of it.
#[utoipa::path(delete, path = "/api/agents/{id}", params(("id" = String, Path, description = "Id or name"), DeleteQuery), responses((status = 202, body = api::AgentView)), tag = "agents")]
async fn delete(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Query(query): Query<DeleteQuery>,
) -> Result<Response, Failure> {
    let drain = query
        .drain
        .map_or(DEFAULT_DRAIN, |s| Duration::from_secs(s.min(MAX_DRAIN_S)));
    let route = format!("DELETE /api/agents/{id}");
    idempotency::once(&gate, &principal, &headers, &route, async {
        let agent = gate.app.delete_agent(&principal, &id, drain).await?;
        Ok((StatusCode::ACCEPTED, agent_view(&agent, None)))
    })
    .await
}

/// Revisions, newest first.
#[utoipa::path(get, path = "/api/agents/{id}/revisions", params(("id" = String, Path, description = "Id or name"), Paging), responses((status = 200, body = Page<api::RevisionView>)), tag = "agents")]
async fn revisions(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Path(id): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<api::RevisionView>>, Failure> {
    let before = match &paging.cursor {
        Some(cursor) => Some(
            cursor
                .parse()
                .map_err(|_| Error::invalid("`cursor` is not one of this list"))?,
        ),
        None => None,
    };
    let listed = gate
        .app
        .list_revisions(&principal, &id, before, paging.limit()?)
        .await?;
    Ok(Json(page(
        listed,
        |revision| revision.number.to_string(),
        revision_view,
    )))
}

/// What was last measured.
#[utoipa::path(get, path = "/api/agents/{id}/metrics", params(("id" = String, Path, description = "Id or name")), responses((status = 200, body = api::AgentMetrics)), tag = "agents")]
async fn metrics(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Path(id): Path<String>,
) -> Result<Json<api::AgentMetrics>, Failure> {
    let detail = gate.app.agent(&principal, &id).await?;
    let replicas: Vec<api::ReplicaMetrics> = detail.replicas.iter().map(replica_metrics).collect();
    let sum = |of: fn(&api::ReplicaMetrics) -> Option<u64>| {
        replicas.iter().filter_map(of).reduce(u64::saturating_add)
    };
    Ok(Json(api::AgentMetrics {
        id: detail.agent.id,
        agent: detail.agent.name.to_string(),
        requests: replicas.iter().map(|r| r.requests).sum(),
        in_flight: replicas.iter().map(|r| r.in_flight).sum(),
        restarts: replicas.iter().map(|r| u64::from(r.restarts)).sum(),
        cpu_millis: sum(|r| r.cpu_millis),
        memory_bytes: sum(|r| r.memory_bytes),
        replicas,
    }))
}

/// Back to an earlier revision: with the next release.
#[utoipa::path(post, path = "/api/agents/{id}/rollback", params(("id" = String, Path, description = "Id or name")), responses((status = 501, body = parallax_api::Problem)), tag = "agents")]
async fn rollback(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    later(&gate, &principal, &id, "rollback").await
}

/// Stops all replicas and keeps the agent: with the next release.
#[utoipa::path(post, path = "/api/agents/{id}/suspend", params(("id" = String, Path, description = "Id or name")), responses((status = 501, body = parallax_api::Problem)), tag = "agents")]
async fn suspend(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    later(&gate, &principal, &id, "suspend").await
}

/// Undoes suspend: with the next release.
#[utoipa::path(post, path = "/api/agents/{id}/resume", params(("id" = String, Path, description = "Id or name")), responses((status = 501, body = parallax_api::Problem)), tag = "agents")]
async fn resume(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    later(&gate, &principal, &id, "resume").await
}

/// Another tenant's agent answers 404 even where the verb does nothing yet.
async fn later(
    gate: &Gate,
    principal: &parallax_core::key::Principal,
    id: &str,
    verb: &str,
) -> Result<Response, Failure> {
    gate.app.agent(principal, id).await?;
    let message = format!("`{verb}` comes with the next release");
    Ok(Failure::from(Error::new(Code::NotImplemented, message)).into_response())
}

pub(super) fn agent_view(agent: &Agent, revision: Option<&Revision>) -> api::AgentView {
    let reference = agent.revision.map(|id| api::RevisionRef {
        id,
        number: revision.map(|r| r.number),
        source_digest: revision.map(|r| r.source_digest.clone()),
    });
    api::AgentView {
        id: agent.id,
        name: agent.name.to_string(),
        language: revision
            .and_then(|r| r.spec.language)
            .map(|language| language.to_string()),
        managed_by: agent.managed_by.to_string(),
        generation: agent.generation,
        replicas: agent.replicas,
        suspended: agent.suspended,
        revision: reference,
        status: status_of(&agent.status),
        created_at: agent.created_at.into(),
        updated_at: agent.updated_at.into(),
    }
}

fn revision_view(revision: Revision) -> api::RevisionView {
    api::RevisionView {
        id: revision.id,
        number: revision.number,
        source_digest: revision.source_digest,
        source_bytes: revision.source_bytes,
        spec: revision.spec,
        created_at: revision.created_at.into(),
        created_by: revision.created_by,
    }
}

fn status_of(status: &Status) -> api::Status {
    let conditions = status.conditions.iter().map(|c| api::Condition {
        kind: c.kind.clone(),
        holds: c.holds,
        message: c.message.clone(),
    });
    api::Status {
        phase: status.phase,
        reason: status.reason,
        message: status.message.clone(),
        since: status.since.into(),
        observed_generation: status.observed_generation,
        replicas: api::ReplicaCounts {
            desired: status.replicas.desired,
            ready: status.replicas.ready,
            updated: status.replicas.updated,
        },
        conditions: conditions.collect(),
    }
}

fn status_view(detail: AgentDetail) -> api::StatusView {
    api::StatusView {
        id: detail.agent.id,
        agent: detail.agent.name.to_string(),
        generation: detail.agent.generation,
        status: status_of(&detail.agent.status),
        replica_details: detail.replicas.iter().map(replica_view).collect(),
        builds: detail.builds.iter().map(build_view).collect(),
    }
}

fn replica_view(detail: &ReplicaDetail) -> api::ReplicaView {
    let (replica, seen) = (&detail.replica, &detail.replica.observed);
    let ready = replica.want == Want::Run
        && seen.phase == ReplicaPhase::Running
        && detail.registered
        && seen.probe_ok != Some(false);
    api::ReplicaView {
        id: replica.id,
        revision: replica.revision_number,
        host: replica.host,
        want: replica.want.as_str().to_owned(),
        phase: seen.phase,
        ready,
        registered: detail.registered,
        host_connected: detail.host_connected,
        reason: seen.reason,
        message: seen.message.clone(),
        incarnation: seen.incarnation,
        restarts: seen.restarts,
        exit: seen.exit.as_ref().map(|exit| api::ExitView {
            code: exit.code,
            signal: exit.signal,
            out_of_memory: exit.out_of_memory,
            ended_at: exit.ended_at.into(),
            last_log_line: exit.last_log_line.clone(),
        }),
        isolation: seen.isolation.clone(),
        pid: seen.pid,
        cpu_millis: detail.usage.and_then(|u| u.cpu_millis),
        memory_bytes: detail.usage.and_then(|u| u.memory_bytes),
        requests: detail.requests,
        in_flight: detail.in_flight,
        started_at: seen.started_at.map(Into::into),
    }
}

fn replica_metrics(detail: &ReplicaDetail) -> api::ReplicaMetrics {
    api::ReplicaMetrics {
        id: detail.replica.id,
        requests: detail.requests,
        in_flight: detail.in_flight,
        restarts: detail.replica.observed.restarts,
        cpu_millis: detail.usage.and_then(|u| u.cpu_millis),
        memory_bytes: detail.usage.and_then(|u| u.memory_bytes),
    }
}

fn build_view(build: &Build) -> api::BuildView {
    api::BuildView {
        id: build.id,
        host: build.host,
        source_digest: build.source_digest.clone(),
        phase: build.phase,
        reason: build.reason,
        message: build.message.clone(),
        cached: build.cached,
        created_at: build.created_at.into(),
        started_at: build.started_at.map(Into::into),
        ended_at: build.ended_at.map(Into::into),
    }
}
