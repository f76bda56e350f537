//! Streams: server-sent events, lines of JSON, or lines of text.
//!
//! Every stream ends when its credential does, when the server stops,
//! and when its source ends; a cursor in `id:` lets a client go on.

use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use parallax_api::Problem;
use parallax_core::key::Principal;
use tokio::time::Instant;

use super::observe::RequestId;
use super::problem::Failure;
use super::state::HandlerState;

/// Shorter than any proxy's patience.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// How a stream is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Sse,
    /// One JSON document a line.
    Ndjson,
    /// For people.
    Text,
    /// Not a stream: one JSON document.
    Json,
}

impl Format {
    const fn content_type(self) -> &'static str {
        match self {
            Self::Sse => "text/event-stream",
            Self::Ndjson => "application/x-ndjson",
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json",
        }
    }
}

/// How the caller wants a stream, and from where on.
#[derive(Debug)]
pub(crate) struct Negotiation {
    pub(crate) request: RequestId,
    /// The first known format that `Accept` names; `None` when it leaves the choice.
    pub(crate) format: Option<Format>,
    /// Where an interrupted reader was: `Last-Event-ID`.
    pub(crate) last: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for Negotiation {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let request = RequestId::from_request_parts(parts, state).await?;
        let text = |name: &str| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let last = text("last-event-id")
            .filter(|text| !text.is_empty())
            .map(str::to_owned);
        Ok(Self {
            request,
            format: accepted(text("accept").unwrap_or("")),
            last,
        })
    }
}

fn accepted(accept: &str) -> Option<Format> {
    accept
        .split(',')
        .find_map(|part| match part.split(';').next().unwrap_or("").trim() {
            "text/event-stream" => Some(Format::Sse),
            "application/x-ndjson" => Some(Format::Ndjson),
            "text/plain" => Some(Format::Text),
            "application/json" => Some(Format::Json),
            _ => None,
        })
}

/// One entry of a stream.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The cursor after it.
    pub(crate) id: Option<String>,
    /// The kind, as server-sent events name it.
    pub(crate) event: &'static str,
    pub(crate) json: String,
    /// For people; an entry without is left out of plain text.
    pub(crate) text: Option<String>,
}

impl Entry {
    pub(crate) fn new(event: &'static str, value: &impl serde::Serialize) -> Self {
        let json = serde_json::to_string(value).expect("responses have only string keys");
        // An agent's JSON comes byte for byte, and may have lines: between its parts, for within
        // a text they are escaped. An entry is one line.
        let json = json.replace(['\n', '\r'], " ");
        Self {
            id: None,
            event,
            json,
            text: None,
        }
    }

    pub(crate) fn problem(problem: &Problem) -> Self {
        let text = Some(format!("! {}: {}\n", problem.code, problem.detail));
        let value = serde_json::json!({ "type": "problem", "problem": problem });
        Self {
            text,
            ..Self::new("problem", &value)
        }
    }

    fn write(self, format: Format) -> Bytes {
        match format {
            Format::Sse => {
                let id = self.id.map_or_else(String::new, |id| format!("id: {id}\n"));
                format!("{id}event: {}\ndata: {}\n\n", self.event, self.json).into()
            }
            Format::Ndjson | Format::Json => format!("{}\n", self.json).into(),
            Format::Text => self.text.unwrap_or_default().into(),
        }
    }
}

/// Who reads, and how.
pub(crate) struct Reader {
    pub(crate) state: HandlerState,
    pub(crate) principal: Principal,
    pub(crate) request: RequestId,
    pub(crate) format: Format,
}

impl Reader {
    /// Answers with a stream of `entries`; an `Err` among them is told and ends it.
    ///
    /// # Errors
    /// `resource_exhausted` when too many streams are open.
    pub(crate) fn respond(
        self,
        entries: impl Stream<Item = Result<Entry, Failure>> + Send + 'static,
    ) -> Result<Response, Failure> {
        let place = self.state.stream_place()?;
        let format = self.format;
        let body = async_stream::stream! {
            let _place = place;
            let mut entries = std::pin::pin!(entries);
            // One future for the whole stream: a check that is under way must not start anew with
            // every entry, or a busy stream would never finish one.
            let mut ended = std::pin::pin!(self.state.app.stream_end(&self.principal));
            let start = Instant::now() + KEEP_ALIVE_EVERY;
            let mut quiet = tokio::time::interval_at(start, KEEP_ALIVE_EVERY);
            loop {
                let next = tokio::select! {
                    biased;
                    error = &mut ended => Err(error.into()),
                    entry = entries.next() => match entry {
                        Some(entry) => entry.map(|entry| entry.write(format)),
                        None => break,
                    },
                    _ = quiet.tick() => Ok(keep_alive(format)),
                };
                match next {
                    Ok(chunk) if chunk.is_empty() => {}
                    Ok(chunk) => {
                        quiet.reset();
                        yield Ok::<_, std::convert::Infallible>(chunk);
                    }
                    Err(failure) => {
                        let problem = failure.document(&self.request.0);
                        yield Ok(Entry::problem(&problem).write(format));
                        break;
                    }
                }
            }
        };
        let mut response = Response::new(Body::from_stream(body));
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(format.content_type()),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Proxies of the nginx kind hold streams back unless they are told not to.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        Ok(response)
    }
}

fn keep_alive(format: Format) -> Bytes {
    match format {
        Format::Sse => Bytes::from_static(b": keep-alive\n\n"),
        Format::Ndjson => Bytes::from_static(b"\n"),
        Format::Text | Format::Json => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn the_first_known_format_is_taken() {
        assert_eq!(accepted("text/event-stream"), Some(Format::Sse));
        assert_eq!(
            accepted("text/html, application/x-ndjson;q=0.9"),
            Some(Format::Ndjson)
        );
        assert_eq!(accepted("*/*"), None);
    }

    #[test]
    fn json_that_has_lines_stays_within_its_entry() {
        let raw = RawValue::from_string("{\n\"a\":\r\n\"b\\nc\"}".to_owned());
        let entry = Entry::new("answer", &raw.expect("well-formed"));
        let expected = "event: answer\ndata: { \"a\":  \"b\\nc\"}\n\n";
        assert_eq!(entry.write(Format::Sse), expected);
    }

    #[test]
    fn an_entry_is_written_in_each_format() {
        let entry = || Entry {
            id: Some("7".to_owned()),
            text: Some("seven\n".to_owned()),
            ..Entry::new("event", &serde_json::json!({ "n": "a\nb" }))
        };
        let sse = "id: 7\nevent: event\ndata: {\"n\":\"a\\nb\"}\n\n";
        assert_eq!(entry().write(Format::Sse), sse);
        assert_eq!(entry().write(Format::Ndjson), "{\"n\":\"a\\nb\"}\n");
        assert_eq!(entry().write(Format::Text), "seven\n");
    }
}
