//! `/api/registry`: who is connected now.

#![expect(
    unused_qualifications,
    reason = "utoipa's derive qualifies what it need not"
)]

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use parallax_api::Page;
use parallax_api::registry::{CapabilityView, RegistryEntry, RegistryEvent, SdkView};
use parallax_core::instance::Capability;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::authenticate::Caller;
use super::problem::Failure;
use super::query::{self, Params};
use super::state::HandlerState;
use super::stream::{Entry, Format, Negotiation, Reader};
use crate::app::registry::{RegistryNews, RegistryWatch};
use crate::clock::Clock;
use crate::dispatch::{InstanceView, RegistryChange};

pub(crate) fn routes() -> OpenApiRouter<HandlerState> {
    OpenApiRouter::new()
        .routes(routes!(list_registry))
        .routes(routes!(watch_registry))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RegistryQuery {
    /// Most items: 1 to 500, 100 when absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Only instances that offer this capability.
    capability: Option<String>,
}

/// Every connected instance, external and hosted, by agent name.
#[utoipa::path(get, path = "/api/registry", tag = "registry", params(RegistryQuery),
    responses((status = 200, body = Page<RegistryEntry>)))]
async fn list_registry(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    Params(params): Params<RegistryQuery>,
) -> Result<axum::Json<Page<RegistryEntry>>, Failure> {
    let page = query::page(params.limit, params.cursor.as_deref())?;
    let listed = state.app.list_registry(
        &principal,
        params.capability.as_deref(),
        page.after.as_deref(),
        page.limit as usize,
    )?;
    let views = listed.views.iter();
    let items = views.map(|view| entry(view, &state.app.clock)).collect();
    let next_cursor = listed.next_cursor;
    Ok(axum::Json(Page { items, next_cursor }))
}

/// The present entries, then each change, as a stream. Whoever falls behind gets `resync` and the
/// present entries again.
#[utoipa::path(get, path = "/api/registry/watch", tag = "registry",
    responses((status = 200, content((RegistryEvent = "text/event-stream"),
        (RegistryEvent = "application/x-ndjson")))))]
async fn watch_registry(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    negotiation: Negotiation,
) -> Result<Response, Failure> {
    let mut watch = state.app.watch_registry(&principal)?;
    let format = negotiation
        .format
        .filter(|f| *f == Format::Ndjson)
        .unwrap_or(Format::Sse);
    let app = Arc::clone(&state.app);
    let reader = Reader {
        state,
        principal: principal.clone(),
        request: negotiation.request,
        format,
    };
    reader.respond(async_stream::try_stream! {
        loop {
            yield told(&RegistryEvent::Resync);
            for view in app.registry(&principal, None)? {
                yield told(&upserted(&view, &app.clock));
            }
            yield told(&RegistryEvent::Synced);
            while let Some(change) = change(&mut watch).await {
                let views = app.registry(&principal, None)?;
                let present = views.iter().find(|view| view.peer.uuid == change.instance_uuid);
                yield told(&match present {
                    Some(view) => upserted(view, &app.clock),
                    None => RegistryEvent::Removed {
                        agent_name: change.agent.to_string(),
                        instance_uuid: change.instance_uuid,
                    },
                });
            }
        }
    })
}

/// The next change; `None` when everything must be told again.
async fn change(watch: &mut RegistryWatch) -> Option<RegistryChange> {
    match watch.next().await {
        RegistryNews::Changed(change) => Some(change),
        RegistryNews::Resync => None,
        // The stream ends with the server, which is told in words of its own.
        RegistryNews::Closed => std::future::pending().await,
    }
}

fn told(event: &RegistryEvent) -> Entry {
    let name = match event {
        RegistryEvent::Resync => "resync",
        RegistryEvent::Synced => "synced",
        RegistryEvent::Upserted { .. } => "upserted",
        RegistryEvent::Removed { .. } => "removed",
        RegistryEvent::Problem { .. } => "problem",
    };
    Entry::new(name, event)
}

fn upserted(view: &InstanceView, clock: &Clock) -> RegistryEvent {
    RegistryEvent::Upserted {
        entry: Box::new(entry(view, clock)),
    }
}

fn entry(view: &InstanceView, clock: &Clock) -> RegistryEntry {
    let peer = &view.peer;
    RegistryEntry {
        agent_name: view.agent_name.clone(),
        agent_id: peer.hosted.map(|(agent, _)| agent),
        replica_id: peer.hosted.map(|(_, replica)| replica),
        instance_uuid: peer.uuid.clone(),
        capabilities: peer.capabilities.iter().map(capability).collect(),
        labels: peer.labels.clone(),
        sdk: SdkView {
            name: peer.sdk.name.clone(),
            version: peer.sdk.version.clone(),
            language: peer.sdk.language.clone(),
        },
        lease_epoch: view.lease_epoch,
        state: view.state.as_str().to_owned(),
        connected_at: view.connected_at.into(),
        lease_until: clock.now().plus(view.lease_left).into(),
        in_flight: view.in_flight,
        credit: view.credit,
        load_ppm: view.load_ppm,
        unresolved_cancels: view.unresolved_cancels,
    }
}

fn capability(offered: &Capability) -> CapabilityView {
    let schema = offered.input_schema.as_ref();
    CapabilityView {
        name: offered.name.clone(),
        version: offered.version.clone(),
        description: offered.description.clone(),
        max_concurrency: offered.max_concurrency,
        idempotent: offered.idempotent,
        // What could not be read was refused with its Hello.
        input_schema: schema.and_then(|json| serde_json::from_slice(json.as_bytes()).ok()),
    }
}
