//! `POST /api/agents/{id}/invoke`: attached calls, and durable ones.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parallax_api::tasks::{
    InvokeRequest, InvokeResponse, PartialView, ProgressView, TaskEntry, TaskEntryKind, TaskView,
};
use parallax_core::error::Error;
use parallax_core::id::TaskId;
use parallax_core::key::Principal;
use parallax_core::task::{Outcome, Payload, Ppm, Progress, TaskContext};
use tokio::sync::mpsc;
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::authenticate::Caller;
use super::body::Json;
use super::idempotency::Idempotency;
use super::outcome::answer;
use super::pieces::Pieces;
use super::problem::Failure;
use super::query::Id;
use super::state::HandlerState;
use super::stream::{Entry, Format, Negotiation, Reader};
use super::tasks;
use crate::app::invoke::Invocation;
use crate::app::tasks::Submission;
use crate::dispatch::{CallEvent, Group, Sink, Update, Updates};

/// Progress and partials that wait for a slow reader of a streamed call; it is told how many more
/// there were.
const UPDATES_KEPT: usize = 64;
/// Longest trace header that is passed on; W3C suggests that 512 bytes arrive everywhere.
const MAX_TRACE_HEADER: usize = 8192;

pub(crate) fn routes() -> OpenApiRouter<HandlerState> {
    OpenApiRouter::new().routes(routes!(invoke_agent))
}

/// Calls an agent, hosted or external.
///
/// Attached by default: the answer is the response, and the call is cancelled when the caller
/// hangs up. With `Accept: text/event-stream` it is preceded by progress and partial results. With
/// `Idempotency-Key` or `Prefer: respond-async` the call becomes a durable task, which is stored
/// before it is answered with 202, and survives caller and server.
#[utoipa::path(post, path = "/api/agents/{id}/invoke", tag = "tasks",
    params(("id" = String, Path, description = "The agent's id or name"),
        ("Prefer" = Option<String>, Header, description = "`respond-async` makes a durable task")),
    request_body = InvokeRequest,
    responses((status = 200, content((InvokeResponse = "application/json"),
            (TaskEntry = "text/event-stream"), (TaskEntry = "application/x-ndjson"))),
        (status = 202, body = TaskView, description = "A durable task; `Location` names it")))]
async fn invoke_agent(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    id: Id,
    once: Idempotency,
    call: CallHeaders,
    negotiation: Negotiation,
    body: Json<InvokeRequest>,
) -> Result<Response, Failure> {
    let invocation = invocation(id.0, body.value, call.context);
    let key = once.into_key();
    if call.durable || key.is_some() {
        let submission = Submission {
            request: invocation,
            idempotency_key: key,
        };
        let task = state.app.submit_task(&principal, submission).await?;
        return Ok(accepted(&tasks::view(&task)));
    }
    if let Some(format @ (Format::Sse | Format::Ndjson)) = negotiation.format {
        let reader = Reader {
            state,
            principal,
            request: negotiation.request,
            format,
        };
        return streamed(reader, invocation).await;
    }
    let attached = state.app.invoke(&principal, invocation).await?;
    let task = attached.task;
    let answer = settle(&state, &principal, task, attached.outcome().await)?;
    Ok(axum::Json(answer).into_response())
}

fn accepted(task: &TaskView) -> Response {
    let mut response = (StatusCode::ACCEPTED, axum::Json(task)).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("/api/tasks/{}", task.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// Turns an outcome into an answer or a failure, and counts it.
fn settle(
    state: &HandlerState,
    principal: &Principal,
    task: TaskId,
    outcome: Outcome,
) -> Result<InvokeResponse, Failure> {
    match outcome {
        Outcome::Success(success) => {
            state.metrics.invoked("succeeded");
            state
                .recent
                .remember(principal.tenant, task, success.blobs().cloned().collect());
            Ok(answer(task, &success))
        }
        Outcome::Problem(problem) => {
            let failure = Failure::of_task(task, problem);
            state.metrics.invoked(failure.code().as_str());
            Err(failure)
        }
    }
}

/// An attached call whose progress is shown.
async fn streamed(reader: Reader, invocation: Invocation) -> Result<Response, Failure> {
    crate::auth::require(&reader.principal, parallax_core::key::Scope::Invoke)?;
    let app = Arc::clone(&reader.state.app);
    let name = app
        .callee(reader.principal.tenant, &invocation.agent)
        .await?;
    let call = app.call(&reader.principal, name, invocation)?;
    let (down, mut frames) = mpsc::channel(UPDATES_KEPT);
    let permit = down
        .clone()
        .reserve_owned()
        .await
        .map_err(Error::internal)?;
    let sink = Sink::Stream {
        call_id: 0,
        permit,
        updates: Some(Updates::to(&down)),
    };
    let group = app.submit_attached(&call, sink).await?;
    let task = call.id;
    let guard = Abandon {
        group,
        task,
        grace: app.limits.cancel_grace,
    };
    let (state, principal) = (reader.state.clone(), reader.principal.clone());
    let request = reader.request.clone();
    reader.respond(async_stream::stream! {
        // Held for as long as anybody reads; the sink's own sender ends the channel otherwise.
        let (_guard, _down) = (guard, down);
        let mut pieces = Pieces::default();
        while let Some(news) = frames.recv().await {
            if news.skipped > 0 {
                yield Ok(skipped(news.skipped));
            }
            match news.event {
                CallEvent::Update(Update::Progress(progress)) => yield Ok(progressed(progress)),
                CallEvent::Update(Update::Partial(partial)) => yield Ok(piece(partial.seq, pieces.text(&partial))),
                CallEvent::Outcome(outcome) => {
                    if let Some(rest) = pieces.rest() {
                        yield Ok(piece(pieces.last(), rest));
                    }
                    yield Ok(match settle(&state, &principal, task, outcome) {
                        Ok(answer) => ended(answer),
                        Err(failure) => Entry::problem(&failure.document(&request.0)),
                    });
                    break;
                }
            }
        }
    })
}

/// Cancels the call when its reader goes away; a call that has ended is not touched.
struct Abandon {
    group: Arc<Group>,
    task: TaskId,
    grace: Duration,
}

impl Drop for Abandon {
    fn drop(&mut self) {
        self.group.abandon(self.task, self.grace, Instant::now());
    }
}

pub(super) fn progressed(progress: Progress) -> Entry {
    let progress = Some(ProgressView {
        ppm: progress.ppm.map(Ppm::get),
        message: progress.message,
    });
    Entry::new(
        "progress",
        &TaskEntry {
            progress,
            ..TaskEntry::new(TaskEntryKind::Progress)
        },
    )
}

pub(super) fn piece(seq: u64, chunk: String) -> Entry {
    let partial = Some(PartialView { seq, chunk });
    Entry::new(
        "partial",
        &TaskEntry {
            partial,
            ..TaskEntry::new(TaskEntryKind::Partial)
        },
    )
}

pub(super) fn skipped(count: u64) -> Entry {
    let entry = TaskEntry {
        skipped: Some(count),
        ..TaskEntry::new(TaskEntryKind::Skipped)
    };
    Entry::new("skipped", &entry)
}

fn ended(answer: InvokeResponse) -> Entry {
    let answer = Some(Box::new(answer));
    Entry::new(
        "answer",
        &TaskEntry {
            answer,
            ..TaskEntry::new(TaskEntryKind::Answer)
        },
    )
}

fn invocation(agent: String, body: InvokeRequest, mut context: TaskContext) -> Invocation {
    context.context_id = body.context_id.unwrap_or_default();
    let input = body.input.map(|input| Payload::Json(input.into()));
    Invocation {
        agent,
        capability: body.capability,
        input: input.unwrap_or_default(),
        deadline: body.deadline_ms.map(Duration::from_millis),
        context,
    }
}

/// What the headers say of a call.
struct CallHeaders {
    durable: bool,
    context: TaskContext,
}

impl<S: Sync> FromRequestParts<S> for CallHeaders {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let trace = |name| text(&parts.headers, name).unwrap_or_default().to_owned();
        let context = TaskContext {
            traceparent: trace("traceparent"),
            tracestate: trace("tracestate"),
            baggage: trace("baggage"),
            ..TaskContext::default()
        };
        Ok(Self {
            durable: prefers_async(&parts.headers),
            context,
        })
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let text = headers.get(name)?.to_str().ok()?;
    Some(text).filter(|text| text.len() <= MAX_TRACE_HEADER)
}

fn prefers_async(headers: &HeaderMap) -> bool {
    let values = headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split([',', ';']));
    preferences.any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}

#[cfg(test)]
mod tests {
    use parallax_core::json::Json;

    use super::*;

    #[test]
    fn a_preference_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.insert("prefer", HeaderValue::from_static("wait=5, respond-async"));
        assert!(prefers_async(&headers));
        headers.insert("prefer", HeaderValue::from_static("return=minimal"));
        assert!(!prefers_async(&headers));
    }

    #[test]
    fn an_input_travels_byte_for_byte() {
        let text = r#"{"capability":"c","input":{"z": 1.00}}"#;
        let body: InvokeRequest = serde_json::from_str(text).expect("well-formed");
        let invocation = invocation("a".to_owned(), body, TaskContext::default());
        let expected = Json::parse(r#"{"z": 1.00}"#.into()).expect("well-formed");
        assert_eq!(invocation.input, Payload::Json(expected));
    }
}
