//! `/api/hosts`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use parallax_api::Page;
use parallax_api::hosts::{HostView, JoinToken};
use parallax_core::host::Host;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::authenticate::Caller;
use super::idempotency::{Idempotency, Kept, Reply};
use super::problem::Failure;
use super::query::{self, PageQuery, Params};
use super::state::HandlerState;
use crate::app::hosts::JOIN_TOKEN_TTL;

pub(crate) fn routes() -> OpenApiRouter<HandlerState> {
    OpenApiRouter::new()
        .routes(routes!(list_hosts))
        .routes(routes!(mint_join_token))
}

/// The tenant's hosts by name.
#[utoipa::path(get, path = "/api/hosts", tag = "hosts", params(PageQuery),
    responses((status = 200, body = Page<HostView>)))]
async fn list_hosts(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    Params(params): Params<PageQuery>,
) -> Result<axum::Json<Page<HostView>>, Failure> {
    let listed = state.app.list_hosts(&principal, &params.page()?).await?;
    Ok(query::listed(
        listed,
        |host| host.name.to_string(),
        |host| view(&state, host),
    ))
}

/// Makes a single-use token with which a host joins; it is shown this once.
#[utoipa::path(post, path = "/api/hosts/token", tag = "hosts",
    responses((status = 201, body = JoinToken)))]
async fn mint_join_token(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    once: Idempotency,
) -> Result<Response, Failure> {
    let (app, caller) = (Arc::clone(&state.app), principal.clone());
    let work = async move |receipt| {
        let token = app.mint_join_token(&caller, receipt).await?;
        let minted = JoinToken {
            token: token.reveal().to_owned(),
            expires_in_s: JOIN_TOKEN_TTL.as_secs(),
        };
        Ok(Reply::json(StatusCode::CREATED, &minted))
    };
    let kept = Kept::Nothing(StatusCode::CREATED);
    once.run(&state, &principal, &[], kept, work).await
}

fn view(state: &HandlerState, host: Host) -> HostView {
    let facts = host.facts;
    HostView {
        connected: state.app.hosts.is_connected(host.id),
        id: host.id,
        name: host.name.to_string(),
        last_seen_at: host.last_seen_at.into(),
        created_at: host.created_at.into(),
        kind: facts.kind,
        arch: facts.arch,
        os: facts.os,
        version: facts.version,
        cpu_millis: facts.cpu.get(),
        memory_bytes: facts.memory.get(),
        isolation: facts.isolation.as_str().to_owned(),
        isolation_tiers: facts.tiers.iter().map(ToString::to_string).collect(),
        limits: facts.limits,
        builders: facts.builders,
        labels: facts.labels,
        unsafe_no_isolation: facts.unsafe_no_isolation,
        max_replicas: facts.max_replicas,
    }
}
