//! `/api/registry`: who is connected now.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use parallax_api::Page;
use parallax_api::registry as api;
use parallax_proto::v1;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::authenticate::Caller;
use super::body::Query;
use super::gate::Gate;
use super::problem::Failure;
use super::query::Paging;
use super::stream::{Format, Item, over, respond};
use crate::app::registry::{RegistryNews, cursor};
use crate::dispatch::InstanceView;

pub(super) fn routes() -> OpenApiRouter<Gate> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(watch))
}

#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// At most 500; 100 when absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Only agents that offer this capability.
    capability: Option<String>,
}

/// Connected agents, external and hosted.
#[utoipa::path(get, path = "/api/registry", params(ListQuery), responses((status = 200, body = Page<api::RegistryEntry>)), tag = "registry")]
async fn list(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<api::RegistryEntry>>, Failure> {
    let limit = Paging {
        limit: query.limit,
        cursor: None,
    }
    .limit()? as usize;
    let mut views = gate.app.registry(&principal, query.capability.as_deref())?;
    if let Some(after) = &query.cursor {
        views.retain(|view| cursor(view) > *after);
    }
    let more = views.len() > limit;
    views.truncate(limit);
    let next_cursor = views.last().filter(|_| more).map(cursor);
    Ok(Json(Page {
        items: views.iter().map(|view| entry(&gate, view)).collect(),
        next_cursor,
    }))
}

/// The present entries, then each change.
#[utoipa::path(get, path = "/api/registry/watch", responses((status = 200, body = api::RegistryEvent, content_type = "text/event-stream")), tag = "registry")]
async fn watch(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let mut watch = gate.app.watch_registry(&principal)?;
    let format = Format::wanted(&headers);
    let items = async_stream::stream! {
        let end = over(&gate, &principal);
        tokio::pin!(end);
        let mut whole = true;
        loop {
            if std::mem::take(&mut whole) {
                let Ok(views) = gate.app.registry(&principal, None) else { break };
                for view in &views {
                    yield item(api::RegistryEvent::Upserted { entry: Box::new(entry(&gate, view)) });
                }
                yield item(api::RegistryEvent::Synced);
            }
            let news = tokio::select! {
                news = watch.next() => news,
                failure = &mut end => {
                    if let Some(failure) = failure {
                        yield item(api::RegistryEvent::Problem { problem: Box::new(failure.document()) });
                    }
                    break;
                }
            };
            match news {
                RegistryNews::Closed => break,
                RegistryNews::Resync => {
                    whole = true;
                    yield item(api::RegistryEvent::Resync);
                }
                RegistryNews::Changed(change) => {
                    let views = gate.app.registry(&principal, None).unwrap_or_else(|_| Vec::new());
                    let found = views.iter().find(|view| view.peer.uuid == change.instance_uuid);
                    yield item(match found {
                        Some(view) => api::RegistryEvent::Upserted { entry: Box::new(entry(&gate, view)) },
                        None => api::RegistryEvent::Removed { agent_name: change.agent.to_string(), instance_uuid: change.instance_uuid },
                    });
                }
            }
        }
    };
    Ok(respond(format, items))
}

fn item(event: api::RegistryEvent) -> Item<api::RegistryEvent> {
    let text = match &event {
        api::RegistryEvent::Resync => "resync".to_owned(),
        api::RegistryEvent::Synced => "synced".to_owned(),
        api::RegistryEvent::Upserted { entry } => format!(
            "{} {} {}",
            entry.agent_name, entry.instance_uuid, entry.state
        ),
        api::RegistryEvent::Removed {
            agent_name,
            instance_uuid,
        } => format!("{agent_name} {instance_uuid} removed"),
        api::RegistryEvent::Problem { problem } => problem.detail.clone(),
    };
    Item {
        cursor: None,
        data: event,
        text,
    }
}

fn entry(gate: &Gate, view: &InstanceView) -> api::RegistryEntry {
    let peer = &view.peer;
    api::RegistryEntry {
        agent_name: view.agent_name.clone(),
        agent_id: peer.hosted.map(|(agent, _)| agent),
        replica_id: peer.hosted.map(|(_, replica)| replica),
        instance_uuid: peer.uuid.clone(),
        capabilities: peer.capabilities.iter().map(capability).collect(),
        labels: peer.labels.clone(),
        sdk: api::SdkView {
            name: peer.sdk.name.clone(),
            version: peer.sdk.version.clone(),
            language: peer.sdk.language.clone(),
        },
        lease_epoch: view.lease_epoch,
        state: view.state.as_str().to_owned(),
        connected_at: view.connected_at.into(),
        lease_until: gate.app.clock.now().plus(view.lease_left).into(),
        in_flight: view.in_flight,
        credit: view.credit,
        load_ppm: view.load_ppm,
        unresolved_cancels: view.unresolved_cancels,
    }
}

fn capability(capability: &v1::Capability) -> api::CapabilityView {
    api::CapabilityView {
        name: capability.name.clone(),
        version: capability.version.clone(),
        description: capability.description.clone(),
        max_concurrency: capability.max_concurrency,
        idempotent: capability.idempotent,
        // A schema that is not JSON is the agent's own matter: it checks its inputs itself.
        input_schema: serde_json::from_slice(&capability.input_schema_json).ok(),
    }
}
