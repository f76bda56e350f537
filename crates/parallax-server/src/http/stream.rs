//! Streams of JSON documents: server-sent events with cursors, or a line each.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use parallax_core::error::Error;
use parallax_core::key::Principal;
use serde::Serialize;

use super::gate::Gate;
use super::problem::Failure;

/// A sign of life on quiet streams, before proxies give up on them.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How a stream is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Sse,
    Lines,
    Text,
}

impl Format {
    /// As `Accept` asks; server-sent events otherwise.
    pub(crate) fn wanted(headers: &HeaderMap) -> Self {
        let accept = headers
            .get(header::ACCEPT)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        match accept {
            a if a.contains("application/x-ndjson") => Self::Lines,
            a if a.contains("text/plain") => Self::Text,
            _ => Self::Sse,
        }
    }
}

/// One document of a stream.
#[derive(Debug)]
pub(crate) struct Item<T> {
    /// What a reader passes to go on after it; `None` where that makes no sense.
    pub cursor: Option<String>,
    pub data: T,
    /// For people.
    pub text: String,
}

/// The cursor that a reader goes on after: `Last-Event-ID`, or the query's.
pub(crate) fn resume(headers: &HeaderMap, query: Option<String>) -> Option<String> {
    let header = headers
        .get("last-event-id")
        .and_then(|v| v.to_str().ok())
        .map(ToOwned::to_owned);
    header.or(query).filter(|cursor| !cursor.is_empty())
}

/// Writes a stream in the wanted format.
pub(crate) fn respond<T: Serialize + Send + 'static>(
    format: Format,
    items: impl Stream<Item = Item<T>> + Send + 'static,
) -> Response {
    match format {
        Format::Sse => {
            let events = items.map(|item| {
                let event = Event::default().data(json(&item.data));
                Ok::<_, Infallible>(match item.cursor {
                    Some(cursor) => event.id(cursor),
                    None => event,
                })
            });
            Sse::new(events)
                .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
                .into_response()
        }
        Format::Lines => lines(
            "application/x-ndjson",
            items.map(|item| json(&item.data) + "\n"),
        ),
        Format::Text => lines(
            "text/plain; charset=utf-8",
            items.map(|item| item.text + "\n"),
        ),
    }
}

fn lines(media_type: &'static str, lines: impl Stream<Item = String> + Send + 'static) -> Response {
    let body = Body::from_stream(lines.map(Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, media_type)], body).into_response()
}

fn json(data: &impl Serialize) -> String {
    serde_json::to_string(data).expect("documents of the API have only string keys")
}

/// Returns when a stream must end: the server stops, or the caller's credential opens nothing any
/// more; then with the reason.
pub(crate) async fn over(gate: &Gate, principal: &Principal) -> Option<Failure> {
    let mut changes = gate.app.auth.changes();
    let expiry = async {
        match principal.expires_at {
            Some(end) => tokio::time::sleep(end.since(gate.app.clock.now())).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(expiry);
    loop {
        let checked: Result<(), Error> = tokio::select! {
            () = gate.app.shutdown.cancelled() => return None,
            () = &mut expiry => gate.app.auth.recheck(principal).await,
            _ = changes.changed() => gate.app.auth.recheck(principal).await,
        };
        if let Err(error) = checked {
            return Some(error.into());
        }
    }
}
