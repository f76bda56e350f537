//! `/healthz`, `/readyz` and `/metrics`, for whoever runs the server.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use parallax_core::key::Scope;
use parallax_store::Page;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::authenticate::Caller;
use super::gate::Gate;
use super::problem::Failure;
use crate::auth::require;

/// Agents that a scrape counts; a tenant with more sees the first.
const COUNTED: u32 = 10_000;

pub(super) fn routes() -> OpenApiRouter<Gate> {
    OpenApiRouter::new()
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(metrics))
}

/// Whether the process lives. Needs no credential.
#[utoipa::path(get, path = "/healthz", responses((status = 200, description = "It does")), tag = "operations", security(()))]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the server takes work: its database answers and it is not stopping. Needs no credential.
#[utoipa::path(get, path = "/readyz", responses((status = 200, description = "It does"), (status = 503, description = "It does not; the text says why")), tag = "operations", security(()))]
async fn readyz(State(gate): State<Gate>) -> Response {
    if gate.app.shutdown.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    match gate.app.store.ping().await {
        Ok(()) => "ready\n".into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

/// Prometheus metrics; needs `read`.
#[utoipa::path(get, path = "/metrics", responses((status = 200, description = "Prometheus text", body = String)), tag = "operations")]
async fn metrics(State(gate): State<Gate>, Caller(principal): Caller) -> Result<Response, Failure> {
    require(&principal, Scope::Read)?;
    let agents = gate
        .app
        .list_agents(&principal, None, &Page::first(COUNTED))
        .await?;
    let phases = agents.items.iter().map(|agent| agent.status.phase);
    let text = gate.metrics.text(gate.app.directory.totals(), phases);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
