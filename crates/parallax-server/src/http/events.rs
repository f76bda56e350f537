//! `/api/events`: what happened, in order.

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use parallax_api::events as api;
use parallax_core::error::Error;
use parallax_core::event::Event;
use parallax_store::events::Filter;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::authenticate::Caller;
use super::body::Query;
use super::gate::Gate;
use super::problem::Failure;
use super::stream::{Format, Item, over, respond, resume};

pub(super) fn routes() -> OpenApiRouter<Gate> {
    OpenApiRouter::new()
        .routes(routes!(all))
        .routes(routes!(of_agent))
}

#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// Events after this cursor; `Last-Event-ID` wins. 0 or absent: from the oldest that is kept.
    after: Option<String>,
}

/// Every event of the tenant, then each new one.
#[utoipa::path(get, path = "/api/events", params(EventsQuery), responses((status = 200, body = api::EventEntry, content_type = "text/event-stream")), tag = "events")]
async fn all(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    stream(gate, principal, Filter::All, query, &headers)
}

/// The events of one agent, its replicas and builds.
#[utoipa::path(get, path = "/api/agents/{id}/events", params(("id" = String, Path, description = "Id or name"), EventsQuery), responses((status = 200, body = api::EventEntry, content_type = "text/event-stream")), tag = "agents")]
async fn of_agent(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Path(id): Path<String>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let detail = gate.app.agent(&principal, &id).await?;
    stream(
        gate,
        principal,
        Filter::SubjectId(detail.agent.id.to_string()),
        query,
        &headers,
    )
}

fn stream(
    gate: Gate,
    principal: parallax_core::key::Principal,
    filter: Filter,
    query: EventsQuery,
    headers: &HeaderMap,
) -> Result<Response, Failure> {
    let after = match resume(headers, query.after) {
        Some(cursor) => cursor
            .parse()
            .map_err(|_| Error::invalid("the cursor is not one of this stream"))?,
        None => 0,
    };
    let mut feed = gate.app.events(&principal, filter, after)?;
    let items = async_stream::stream! {
        let end = over(&gate, &principal);
        tokio::pin!(end);
        loop {
            let batch = tokio::select! {
                batch = feed.next() => batch,
                failure = &mut end => {
                    if let Some(failure) = failure {
                        let data = api::EventEntry::Problem { problem: Box::new(failure.document()) };
                        yield Item { cursor: None, data, text: "the credential opens nothing any more".to_owned() };
                    }
                    break;
                }
            };
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    let problem = Box::new(Failure::from(error).document());
                    let text = problem.detail.clone();
                    yield Item { cursor: None, data: api::EventEntry::Problem { problem }, text };
                    break;
                }
            };
            if let Some(to) = batch.skipped_to {
                yield Item { cursor: None, data: api::EventEntry::Skipped { to }, text: format!("events up to {to} were deleted") };
            }
            for event in batch.events {
                yield item(event);
            }
        }
    };
    Ok(respond(Format::wanted(headers), items))
}

fn item(event: Event) -> Item<api::EventEntry> {
    let text = format!(
        "{} {} {} {}",
        event.at, event.subject_id, event.kind, event.message
    );
    // What was stored as JSON reads back as JSON; anything else would be a fault of the store's.
    let data = serde_json::from_str(&event.data_json).unwrap_or(serde_json::Value::Null);
    let view = api::EventView {
        cursor: event.cursor,
        at: event.at.into(),
        subject: event.subject.to_string(),
        subject_id: event.subject_id,
        kind: event.kind,
        message: event.message,
        data,
    };
    Item {
        cursor: Some(event.cursor.to_string()),
        data: api::EventEntry::Event(view),
        text,
    }
}
