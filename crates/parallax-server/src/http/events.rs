//! What happened, as pages or as a stream.

#![expect(
    unused_qualifications,
    reason = "utoipa's derive qualifies what it need not"
)]

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use parallax_api::Page;
use parallax_api::events::{EventEntry, EventView};
use parallax_core::error::Error;
use parallax_core::event::{Event, Subject};
use parallax_core::key::{Principal, Scope};
use parallax_store::events::Filter;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::authenticate::Caller;
use super::problem::Failure;
use super::query::{self, Id, Params};
use super::state::HandlerState;
use super::stream::{Entry, Format, Negotiation, Reader};

pub(crate) fn routes() -> OpenApiRouter<HandlerState> {
    OpenApiRouter::new()
        .routes(routes!(list_events))
        .routes(routes!(agent_events))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// Events after this cursor, or `now` for none of the past; all that are kept when absent.
    after: Option<String>,
    /// Most items of a page: 1 to 500, 100 when absent.
    limit: Option<u32>,
    /// Only events about `agent`, `task`, `host` or `key`. An agent's include its replicas' and
    /// builds'.
    subject: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AgentEventsQuery {
    /// Events after this cursor, or `now` for none of the past; all that are kept when absent.
    after: Option<String>,
    /// Most items of a page: 1 to 500, 100 when absent.
    limit: Option<u32>,
}

/// Events of the tenant: a page of JSON, or with `Accept: text/event-stream` or
/// `application/x-ndjson` a stream that goes on.
#[utoipa::path(get, path = "/api/events", tag = "events", params(EventsQuery),
    responses((status = 200, content((Page<EventView> = "application/json"),
        (EventEntry = "text/event-stream"), (EventEntry = "application/x-ndjson")))))]
async fn list_events(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    Params(params): Params<EventsQuery>,
    negotiation: Negotiation,
) -> Result<Response, Failure> {
    let filter = match params.subject {
        Some(text) => {
            let subject = text.parse::<Subject>();
            Filter::Subject(subject.map_err(|e| Error::invalid(format!("`subject`: {e}")))?)
        }
        None => Filter::All,
    };
    answer(
        state,
        principal,
        filter,
        (params.after, params.limit),
        negotiation,
    )
    .await
}

/// Events of one agent, its replicas' and builds' included; as pages or as a stream.
#[utoipa::path(get, path = "/api/agents/{id}/events", tag = "agents",
    params(("id" = String, Path, description = "The agent's id or name"), AgentEventsQuery),
    responses((status = 200, content((Page<EventView> = "application/json"),
        (EventEntry = "text/event-stream"), (EventEntry = "application/x-ndjson")))))]
async fn agent_events(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    id: Id,
    Params(params): Params<AgentEventsQuery>,
    negotiation: Negotiation,
) -> Result<Response, Failure> {
    let agent = state.app.find_agent(&principal, Scope::Read, &id.0).await?;
    let filter = Filter::SubjectId(agent.id.to_string());
    answer(
        state,
        principal,
        filter,
        (params.after, params.limit),
        negotiation,
    )
    .await
}

async fn answer(
    state: HandlerState,
    principal: Principal,
    filter: Filter,
    (after, limit): (Option<String>, Option<u32>),
    negotiation: Negotiation,
) -> Result<Response, Failure> {
    let after = match negotiation.last.or(after).as_deref() {
        None => 0,
        Some("now") => state.app.latest_event(&principal).await?,
        Some(text) => {
            let after = cursor(text)?;
            let newest = state.app.latest_event(&principal).await?;
            if after > newest {
                return Err(beyond(after, newest).into());
            }
            after
        }
    };
    if let Some(format @ (Format::Sse | Format::Ndjson)) = negotiation.format {
        return follow(
            Reader {
                state,
                principal,
                request: negotiation.request,
                format,
            },
            filter,
            after,
        );
    }
    let limit = query::page(limit, None)?.limit;
    let batch = state
        .app
        .list_events(&principal, &filter, after, limit)
        .await?;
    let full = batch.events.len() >= limit as usize;
    let next_cursor = batch
        .events
        .last()
        .filter(|_| full)
        .map(|e| e.cursor.to_string());
    let items: Vec<EventView> = batch.events.into_iter().map(view).collect();
    Ok(axum::Json(Page { items, next_cursor }).into_response())
}

fn follow(reader: Reader, filter: Filter, after: u64) -> Result<Response, Failure> {
    let mut feed = reader.state.app.events(&reader.principal, filter, after)?;
    reader.respond(async_stream::try_stream! {
        loop {
            let batch = feed.next().await?;
            if let Some(to) = batch.skipped_to {
                yield Entry::new("skipped", &EventEntry::Skipped { to });
            }
            for event in batch.events {
                let id = Some(event.cursor.to_string());
                yield Entry { id, ..Entry::new("event", &EventEntry::Event(view(event))) };
            }
        }
    })
}

/// Waiting there would look like silence: the cursor is of another server, or of a database that
/// was restored from before it.
fn beyond(after: u64, newest: u64) -> Error {
    Error::invalid(format!(
        "the cursor {after} is beyond the newest event, {newest}: it is not of this server's events; begin again without `after`"
    ))
}

/// Reads a cursor of events.
pub(crate) fn cursor(text: &str) -> Result<u64, Error> {
    let wrong = |_| {
        Error::invalid(format!(
            "`{}` is not a cursor of events",
            text.escape_debug()
        ))
    };
    text.parse().map_err(wrong)
}

fn view(event: Event) -> EventView {
    EventView {
        cursor: event.cursor,
        at: event.at.into(),
        subject: event.subject.as_str().to_owned(),
        subject_id: event.subject_id,
        kind: event.kind,
        message: event.message,
        // The store's own JSON; were it broken, the rest of the event still counts.
        data: serde_json::from_str(&event.data_json).unwrap_or_default(),
    }
}
