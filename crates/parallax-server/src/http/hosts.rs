//! `/api/hosts`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use parallax_api::Page;
use parallax_api::hosts as api;
use parallax_core::host::Host;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::authenticate::Caller;
use super::body::Query;
use super::gate::Gate;
use super::problem::Failure;
use super::query::{Paging, page};
use crate::app::hosts::JOIN_TOKEN_TTL;

pub(super) fn routes() -> OpenApiRouter<Gate> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(token))
}

/// The tenant's hosts, by name.
#[utoipa::path(get, path = "/api/hosts", params(Paging), responses((status = 200, body = Page<api::HostView>)), tag = "hosts")]
async fn list(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<api::HostView>>, Failure> {
    let listed = gate.app.list_hosts(&principal, &paging.page()?).await?;
    Ok(Json(page(
        listed,
        |host| host.name.to_string(),
        |host| view(&gate, host),
    )))
}

/// A single-use token with which a host joins.
#[utoipa::path(post, path = "/api/hosts/token", responses((status = 201, body = api::JoinToken)), tag = "hosts")]
async fn token(
    State(gate): State<Gate>,
    Caller(principal): Caller,
) -> Result<(StatusCode, Json<api::JoinToken>), Failure> {
    let token = gate.app.mint_join_token(&principal).await?;
    let body = api::JoinToken {
        token: token.reveal().to_owned(),
        expires_in_s: JOIN_TOKEN_TTL.as_secs(),
    };
    Ok((StatusCode::CREATED, Json(body)))
}

fn view(gate: &Gate, host: Host) -> api::HostView {
    let facts = host.facts;
    api::HostView {
        id: host.id,
        name: host.name.to_string(),
        connected: gate.app.hosts.is_connected(host.id),
        last_seen_at: host.last_seen_at.into(),
        created_at: host.created_at.into(),
        kind: facts.kind,
        arch: facts.arch,
        os: facts.os,
        version: facts.version,
        cpu_millis: facts.cpu.get(),
        memory_bytes: facts.memory.get(),
        isolation: facts.isolation.as_str().to_owned(),
        isolation_tiers: facts
            .tiers
            .iter()
            .map(|tier| tier.as_str().to_owned())
            .collect(),
        limits: facts.limits,
        builders: facts.builders,
        labels: facts.labels,
        unsafe_no_isolation: facts.unsafe_no_isolation,
        max_replicas: facts.max_replicas,
    }
}
