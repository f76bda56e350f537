//! `/api/agents/{id}/logs`: what replicas and builds wrote, read from the hosts that keep it.

#![expect(
    unused_qualifications,
    reason = "utoipa's derive qualifies what it need not"
)]

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use parallax_api::Time;
use parallax_api::logs::{LogEntry, LogLine};
use parallax_core::error::{Error, Result};
use parallax_core::time::Timestamp;
use parallax_proto::v1;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::authenticate::Caller;
use super::problem::Failure;
use super::query::{self, Id, Params};
use super::state::HandlerState;
use super::stream::{Entry, Format, Negotiation, Reader};
use crate::app::logs::{LogItem, LogPosition, LogQuery};

/// Most sources that a cursor may name: more than an agent's live and kept replicas.
const MAX_POSITIONS: usize = 256;
/// Most last lines of each source that may be asked for.
const MAX_TAIL: u32 = 100_000;

pub(crate) fn routes() -> OpenApiRouter<HandlerState> {
    OpenApiRouter::new().routes(routes!(agent_logs))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LogsQuery {
    /// Goes on as lines are written.
    #[serde(default, deserialize_with = "query::flag")]
    follow: bool,
    /// Only lines since then: RFC 3339, or an age such as `90s`, `10m`, `2h`, `7d`.
    since: Option<String>,
    /// The last n lines of each source instead of all; at most 100 000.
    tail: Option<u32>,
    /// Only this replica (`rpl_…`).
    replica: Option<String>,
    /// Only replicas of this revision's number.
    revision: Option<u64>,
    /// The log of the newest build instead.
    #[serde(default, deserialize_with = "query::flag")]
    build: bool,
    /// A line's `cursor`: go on after it. `Last-Event-ID` does the same.
    after: Option<String>,
}

/// Lines of an agent's replicas, or of its newest build: as server-sent events, or by `Accept` as
/// `application/x-ndjson` or `text/plain`. A source that is out of reach says so in between.
#[utoipa::path(get, path = "/api/agents/{id}/logs", tag = "agents",
    params(("id" = String, Path, description = "The agent's id or name"), LogsQuery),
    responses((status = 200, content((LogEntry = "text/event-stream"),
        (LogEntry = "application/x-ndjson"), (String = "text/plain")))))]
async fn agent_logs(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    id: Id,
    Params(params): Params<LogsQuery>,
    negotiation: Negotiation,
) -> Result<Response, Failure> {
    let since = params
        .since
        .as_deref()
        .map(|text| since(text, state.app.clock.now()))
        .transpose()?;
    if params.tail.is_some_and(|tail| tail > MAX_TAIL) {
        return Err(Error::invalid(format!("`tail` may be at most {MAX_TAIL}")).into());
    }
    let replica = params.replica.map(|text| text.parse()).transpose();
    let after = negotiation.last.or(params.after);
    let query = LogQuery {
        follow: params.follow,
        tail: params.tail,
        replica: replica.map_err(|e| Error::invalid(format!("`replica`: {e}")))?,
        revision: params.revision,
        build: params.build,
        after: after
            .as_deref()
            .map(positions)
            .transpose()?
            .unwrap_or_default(),
    };
    let mut feed = state.app.agent_logs(&principal, &id.0, &query).await?;
    let mut cursor = Cursor::new(query.after);
    let format = match negotiation.format {
        Some(format @ (Format::Ndjson | Format::Text)) => format,
        _ => Format::Sse,
    };
    let reader = Reader {
        state,
        principal,
        request: negotiation.request,
        format,
    };
    reader.respond(async_stream::stream! {
        while let Some(item) = feed.next().await {
            let old = |record: &v1::LogRecord| {
                since.is_some_and(|since| Timestamp::from_unix_micros(record.time_unix_us) < since)
            };
            match item {
                LogItem::Record(record) if old(&record) => cursor.passed(&record),
                LogItem::Record(record) => {
                    cursor.passed(&record);
                    yield Ok(line(&record, cursor.to_string()));
                }
                LogItem::Unavailable { source, message } => yield Ok(unavailable(source, message)),
            }
        }
    })
}

/// Where a reader is in every source that it has seen.
struct Cursor(BTreeMap<String, LogPosition>);

impl Cursor {
    fn new(after: Vec<LogPosition>) -> Self {
        Self(
            after
                .into_iter()
                .map(|position| (position.source.clone(), position))
                .collect(),
        )
    }

    fn passed(&mut self, record: &v1::LogRecord) {
        let position = LogPosition {
            source: record.source_id.clone(),
            incarnation: record.incarnation,
            seq: record.seq,
        };
        self.0.insert(record.source_id.clone(), position);
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, position) in self.0.values().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{position}")?;
        }
        Ok(())
    }
}

fn positions(text: &str) -> Result<Vec<LogPosition>> {
    if text.split(',').count() > MAX_POSITIONS {
        return Err(Error::invalid(format!(
            "a log cursor names at most {MAX_POSITIONS} sources"
        )));
    }
    text.split(',').map(str::parse).collect()
}

/// Reads a time or an age.
fn since(text: &str, now: Timestamp) -> Result<Timestamp> {
    if let Ok(time) = text.parse::<Time>() {
        return Ok(time.0);
    }
    let wrong = || {
        let text = text.escape_debug();
        Error::invalid(format!(
            "`since`: `{text}` is neither a time (RFC 3339) nor an age (`10m`)"
        ))
    };
    let unit = match text.bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3600,
        Some(b'd') => 24 * 3600,
        _ => return Err(wrong()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let micros = i64::from(number).saturating_mul(unit * 1_000_000);
    Ok(Timestamp::from_unix_micros(
        now.unix_micros().saturating_sub(micros),
    ))
}

fn line(record: &v1::LogRecord, cursor: String) -> Entry {
    let line = LogLine {
        source: record.source_id.clone(),
        incarnation: record.incarnation,
        seq: record.seq,
        time: Timestamp::from_unix_micros(record.time_unix_us).into(),
        stream: record.stream.clone(),
        line: String::from_utf8_lossy(&record.line).into_owned(),
        partial: record.partial,
        gap_before: record.gap_before,
        cursor: cursor.clone(),
    };
    // A line in pieces is put together again by leaving the line's end out.
    let end = if line.partial { "" } else { "\n" };
    let text = Some(format!("{}{end}", line.line));
    Entry {
        id: Some(cursor),
        text,
        ..Entry::new("line", &LogEntry::Line(line))
    }
}

fn unavailable(source: String, message: String) -> Entry {
    let text = Some(format!(
        "! the log of {source} is out of reach: {message}\n"
    ));
    Entry {
        text,
        ..Entry::new("unavailable", &LogEntry::Unavailable { source, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(source: &str, seq: u64) -> v1::LogRecord {
        v1::LogRecord {
            source_id: source.to_owned(),
            incarnation: 1,
            seq,
            time_unix_us: 1_000_000,
            stream: "stdout".to_owned(),
            line: vec![b'a', 0xff].into(),
            partial: false,
            gap_before: false,
        }
    }

    #[test]
    fn a_cursor_names_every_source_and_can_be_read_again() {
        let mut cursor = Cursor::new(positions("rpl_b:1:4").expect("well-formed"));
        cursor.passed(&record("rpl_a", 7));
        cursor.passed(&record("rpl_b", 5));
        assert_eq!(cursor.to_string(), "rpl_a:1:7,rpl_b:1:5");
        let read = Cursor::new(positions(&cursor.to_string()).expect("it was just written"));
        assert_eq!(read.to_string(), cursor.to_string());
        assert!(positions("rpl_a:1").is_err());
    }

    #[test]
    fn since_is_a_time_or_an_age() {
        let now = Timestamp::from_unix_millis(100_000);
        assert_eq!(
            since("90s", now).expect("an age"),
            Timestamp::from_unix_millis(10_000)
        );
        let time = since("1970-01-01T00:00:01Z", now).expect("a time");
        assert_eq!(time, Timestamp::from_unix_millis(1000));
        for wrong in ["", "m", "-1s", "soon", "5ä"] {
            assert!(since(wrong, now).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_do_not_break_a_line() {
        let entry = line(&record("rpl_a", 1), "rpl_a:1:1".to_owned());
        assert_eq!(entry.text.as_deref(), Some("a\u{fffd}\n"));
    }
}
