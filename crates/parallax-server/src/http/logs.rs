//! `GET /api/agents/{id}/logs`.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use parallax_api::logs as api;
use parallax_core::error::Error;
use parallax_core::time::Timestamp;
use parallax_proto::v1;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::authenticate::Caller;
use super::body::Query;
use super::gate::Gate;
use super::problem::Failure;
use super::stream::{Format, Item, over, respond, resume};
use crate::app::logs::{LogItem, LogPosition, LogQuery};

pub(super) fn routes() -> OpenApiRouter<Gate> {
    OpenApiRouter::new().routes(routes!(logs))
}

#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct LogsQuery {
    /// Go on with new lines as they come.
    #[serde(default)]
    follow: bool,
    /// The last n lines of each source.
    tail: Option<u32>,
    /// Only lines from this instant on (RFC 3339).
    since: Option<String>,
    /// Only this replica.
    replica: Option<String>,
    /// Only replicas of this revision.
    revision: Option<u64>,
    /// The log of the newest build instead.
    #[serde(default)]
    build: bool,
    /// Go on after this cursor; `Last-Event-ID` wins.
    after: Option<String>,
}

/// Logs of an agent's replicas, dead ones included, or of its build: server-sent events, a JSON
/// document a line, or plain text, as `Accept` asks.
#[utoipa::path(get, path = "/api/agents/{id}/logs", params(("id" = String, Path, description = "Id or name"), LogsQuery), responses((status = 200, body = api::LogEntry, content_type = "text/event-stream")), tag = "agents")]
async fn logs(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Path(id): Path<String>,
    Query(query): Query<LogsQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let since = match &query.since {
        Some(text) => {
            let time: parallax_api::Time = text
                .parse()
                .map_err(|e| Error::invalid(format!("`since`: {e}")))?;
            Some(time.0)
        }
        None => None,
    };
    let replica = match &query.replica {
        Some(text) => Some(
            text.parse()
                .map_err(|e| Error::invalid(format!("`replica`: {e}")))?,
        ),
        None => None,
    };
    let after = match resume(&headers, query.after) {
        Some(cursor) => cursor
            .split(',')
            .map(str::parse)
            .collect::<Result<Vec<LogPosition>, _>>()?,
        None => Vec::new(),
    };
    let mut positions: Positions = after
        .iter()
        .map(|p| (p.source.clone(), (p.incarnation, p.seq)))
        .collect();
    let wanted = LogQuery {
        follow: query.follow,
        tail: query.tail,
        replica,
        revision: query.revision,
        build: query.build,
        after,
    };
    let mut feed = gate.app.agent_logs(&principal, &id, &wanted).await?;
    let items = async_stream::stream! {
        let end = over(&gate, &principal);
        tokio::pin!(end);
        loop {
            let item = tokio::select! {
                item = feed.next() => item,
                failure = &mut end => {
                    if let Some(failure) = failure {
                        let data = api::LogEntry::Problem { problem: Box::new(failure.document()) };
                        yield Item { cursor: None, data, text: "the credential opens nothing any more".to_owned() };
                    }
                    break;
                }
            };
            match item {
                Some(LogItem::Record(record)) => {
                    positions.insert(record.source_id.clone(), (record.incarnation, record.seq));
                    if since.is_none_or(|since| Timestamp::from_unix_micros(record.time_unix_us) >= since) {
                        yield line(record, cursor(&positions));
                    }
                }
                Some(LogItem::Unavailable { source, message }) => {
                    let text = format!("[{source}] logs are unavailable: {message}");
                    yield Item { cursor: None, data: api::LogEntry::Unavailable { source, message }, text };
                }
                None => break,
            }
        }
    };
    Ok(respond(Format::wanted(&headers), items))
}

type Positions = BTreeMap<String, (u64, u64)>;

/// Where a reader is in every source that it has seen.
fn cursor(positions: &Positions) -> String {
    let parts: Vec<String> = positions
        .iter()
        .map(|(source, (incarnation, seq))| format!("{source}:{incarnation}:{seq}"))
        .collect();
    parts.join(",")
}

fn line(record: v1::LogRecord, cursor: String) -> Item<api::LogEntry> {
    let text = String::from_utf8_lossy(&record.line).into_owned();
    let line = api::LogLine {
        source: record.source_id,
        incarnation: record.incarnation,
        seq: record.seq,
        time: Timestamp::from_unix_micros(record.time_unix_us).into(),
        stream: record.stream,
        line: text.clone(),
        partial: record.partial,
        gap_before: record.gap_before,
        cursor: cursor.clone(),
    };
    Item {
        cursor: Some(cursor),
        data: api::LogEntry::Line(line),
        text,
    }
}
