//! `/healthz`, `/readyz`, `/metrics`.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use parallax_core::error::Error;
use parallax_core::key::{Principal, Scope};
use parallax_core::status::Phase;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::authenticate::Caller;
use super::problem::Failure;
use super::state::HandlerState;
use crate::auth::require;

pub(crate) fn routes() -> OpenApiRouter<HandlerState> {
    OpenApiRouter::new()
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(metrics))
}

/// Whether the process answers.
#[utoipa::path(get, path = "/healthz", tag = "operations", security(()),
    responses((status = 200, body = String, content_type = "text/plain")))]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the server takes work: it is not stopping, the database takes a write, and the disk has
/// room.
#[utoipa::path(get, path = "/readyz", tag = "operations", security(()),
    responses((status = 200, body = String, content_type = "text/plain")))]
async fn readyz(State(state): State<HandlerState>) -> Result<&'static str, Failure> {
    state.app.check_ready().await?;
    Ok("ready\n")
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InPhase {
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    state: &'static str,
}

/// Figures for Prometheus: the server's requests, and the agents of the caller's tenant. An agent is
/// counted in `parallax_agents`, or in `parallax_agents_unconfirmed` while its phase rests on
/// replicas that were not heard of since the server's start or the loss of their host.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, body = String, content_type = "text/plain")))]
async fn metrics(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
) -> Result<Response, Failure> {
    require(&principal, Scope::Read)?;
    let mut registry = Registry::default();
    state.metrics.register(&mut registry);
    count_agents(&state, &principal, &mut registry).await?;
    count_instances(&state, &principal, &mut registry)?;
    let mut text = String::new();
    encode(&mut text, &registry).map_err(Error::internal)?;
    let content = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content)], text).into_response())
}

async fn count_agents(
    state: &HandlerState,
    principal: &Principal,
    registry: &mut Registry,
) -> Result<(), Error> {
    let families = [false, true].map(|unconfirmed| (unconfirmed, Family::default()));
    let counts = state.app.count_agents(principal).await?;
    for (unconfirmed, by_phase) in &families {
        let by_phase: &Family<InPhase, Gauge> = by_phase;
        for phase in Phase::ALL {
            let agents: u64 = counts
                .iter()
                .filter(|count| count.phase == *phase && count.unconfirmed == *unconfirmed)
                .map(|count| count.agents)
                .sum();
            let phase = phase.as_str();
            by_phase
                .get_or_create(&InPhase { phase })
                .set(i64::try_from(agents).unwrap_or(i64::MAX));
        }
    }
    let [(_, known), (_, unconfirmed)] = families;
    registry.register("parallax_agents", "Hosted agents by phase", known);
    registry.register(
        "parallax_agents_unconfirmed",
        "Hosted agents by the phase they had, with replicas that were not heard of since the start or the loss of their host",
        unconfirmed,
    );
    Ok(())
}

fn count_instances(
    state: &HandlerState,
    principal: &Principal,
    registry: &mut Registry,
) -> Result<(), Error> {
    let (instances, in_flight) = (Family::<InState, Gauge>::default(), Gauge::<i64>::default());
    for view in state.app.registry(principal, None)? {
        instances
            .get_or_create(&InState {
                state: view.state.as_str(),
            })
            .inc();
        in_flight.inc_by(i64::from(view.in_flight));
    }
    let waiting = Gauge::<i64>::default();
    let calls = state.app.directory.waiting(principal.tenant);
    waiting.set(i64::try_from(calls).unwrap_or(i64::MAX));
    registry.register(
        "parallax_agent_instances",
        "Connected instances, external and hosted, by state",
        instances,
    );
    registry.register(
        "parallax_tasks_in_flight",
        "Tasks that instances have",
        in_flight,
    );
    registry.register(
        "parallax_calls_waiting",
        "Attached calls that wait for room",
        waiting,
    );
    Ok(())
}
