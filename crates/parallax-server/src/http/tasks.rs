//! `/api/tasks`: durable tasks, and the large values of any.

#![expect(
    unused_qualifications,
    reason = "utoipa's derive qualifies what it need not"
)]

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use parallax_api::Page;
use parallax_api::tasks::{
    CancelRequest, TaskEntry, TaskEntryKind, TaskEventView, TaskInput, TaskView,
};
use parallax_core::blob::BlobRef;
use parallax_core::error::{Code, Error};
use parallax_core::id::TaskId;
use parallax_core::key::{Principal, Scope};
use parallax_core::task::{Outcome, Payload};
use serde::Deserialize;
use tokio_util::io::ReaderStream;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::authenticate::Caller;
use super::body::{Json, OptionalJson};
use super::events::cursor;
use super::idempotency::{Idempotency, Reply};
use super::invoke::{piece, progressed, skipped};
use super::outcome;
use super::pieces::Pieces;
use super::problem::Failure;
use super::query::{self, Id, Params};
use super::state::HandlerState;
use super::stream::{Entry, Format, Negotiation, Reader};
use crate::app::tasks::{TaskChange, TaskNews, TaskRecord};
use crate::auth::require;
use crate::dispatch::Update;

pub(crate) fn routes() -> OpenApiRouter<HandlerState> {
    OpenApiRouter::new()
        .routes(routes!(list_tasks))
        .routes(routes!(get_task))
        .routes(routes!(task_events))
        .routes(routes!(cancel_task))
        .routes(routes!(answer_task))
        .routes(routes!(task_blob))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TasksQuery {
    /// Most items: 1 to 500, 100 when absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Only tasks of the agent of this name.
    agent: Option<String>,
    /// Only tasks in this state, such as `running`.
    state: Option<String>,
}

/// Durable tasks, newest first.
#[utoipa::path(get, path = "/api/tasks", tag = "tasks", params(TasksQuery),
    responses((status = 200, body = Page<TaskView>)))]
async fn list_tasks(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    Params(params): Params<TasksQuery>,
) -> Result<axum::Json<Page<TaskView>>, Failure> {
    let agent = params.agent.map(|text| text.parse()).transpose();
    let agent = agent.map_err(|e| Error::invalid(format!("`agent`: {e}")))?;
    let phase = params.state.map(|text| text.parse()).transpose();
    let phase = phase.map_err(|e| Error::invalid(format!("`state`: {e}")))?;
    let page = query::page(params.limit, params.cursor.as_deref())?;
    let listed = state
        .app
        .list_tasks(&principal, agent, phase, &page)
        .await?;
    Ok(query::listed(
        listed,
        |task| task.row.id.to_string(),
        |task| view(&task),
    ))
}

/// One durable task.
#[utoipa::path(get, path = "/api/tasks/{id}", tag = "tasks",
    params(("id" = String, Path, description = "The task's id")),
    responses((status = 200, body = TaskView)))]
async fn get_task(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    id: Id,
) -> Result<axum::Json<TaskView>, Failure> {
    let task = state.app.get_task(&principal, id.parse()?).await?;
    Ok(axum::Json(view(&task)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TaskEventsQuery {
    /// Changes after this cursor; `Last-Event-ID` does the same.
    after: Option<String>,
}

/// Every change of a task as a stream, which ends after the last one. Progress and partial results of
/// the attempt under way come in between, to those who watch at that time.
#[utoipa::path(get, path = "/api/tasks/{id}/events", tag = "tasks",
    params(("id" = String, Path, description = "The task's id"), TaskEventsQuery),
    responses((status = 200, content((TaskEntry = "text/event-stream"),
        (TaskEntry = "application/x-ndjson")))))]
async fn task_events(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    id: Id,
    Params(params): Params<TaskEventsQuery>,
    negotiation: Negotiation,
) -> Result<Response, Failure> {
    let after = negotiation.last.or(params.after);
    let after = after.as_deref().map(cursor).transpose()?.unwrap_or(0);
    let mut watch = state.app.watch_task(&principal, id.parse()?, after).await?;
    let format = negotiation
        .format
        .filter(|f| *f == Format::Ndjson)
        .unwrap_or(Format::Sse);
    let reader = Reader {
        state,
        principal,
        request: negotiation.request,
        format,
    };
    reader.respond(async_stream::try_stream! {
        let mut pieces = Pieces::default();
        while let Some(news) = watch.next().await {
            yield match news? {
                TaskNews::Changed(change) => changed(*change),
                TaskNews::Update(Update::Progress(progress)) => progressed(progress),
                TaskNews::Update(Update::Partial(partial)) => piece(partial.seq, pieces.text(&partial)),
                TaskNews::Skipped(count) => skipped(count),
            };
        }
    })
}

fn changed(change: TaskChange) -> Entry {
    let event = TaskEventView {
        cursor: change.cursor,
        at: change.at.into(),
        kind: change.kind,
        task: view(&change.task),
    };
    let id = Some(event.cursor.to_string());
    let event = Some(Box::new(event));
    let entry = TaskEntry {
        event,
        ..TaskEntry::new(TaskEntryKind::Event)
    };
    Entry {
        id,
        ..Entry::new("event", &entry)
    }
}

/// Asks for a stop. What runs is over when its agent says so.
#[utoipa::path(post, path = "/api/tasks/{id}/cancel", tag = "tasks",
    params(("id" = String, Path, description = "The task's id")),
    request_body(content = Option<CancelRequest>, content_type = "application/json"),
    responses((status = 202, body = TaskView)))]
async fn cancel_task(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    id: Id,
    once: Idempotency,
    body: OptionalJson<CancelRequest>,
) -> Result<Response, Failure> {
    let task: TaskId = id.parse()?;
    let (app, caller) = (Arc::clone(&state.app), principal.clone());
    let reason = body.value.reason;
    let work = async move {
        let task = app.cancel_task(&caller, task, &reason).await?;
        Ok(Reply::json(StatusCode::ACCEPTED, &view(&task)))
    };
    once.run_live(&state, &principal, &[&body.bytes], work)
        .await
}

/// Answers a question of a running task.
#[utoipa::path(post, path = "/api/tasks/{id}/input", tag = "tasks",
    params(("id" = String, Path, description = "The task's id")),
    request_body = TaskInput, responses((status = 204)))]
async fn answer_task(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    id: Id,
    once: Idempotency,
    body: Json<TaskInput>,
) -> Result<Response, Failure> {
    let task: TaskId = id.parse()?;
    let (app, caller) = (Arc::clone(&state.app), principal.clone());
    let TaskInput { input_id, value } = body.value;
    let value = Payload::Json(value.into());
    let work = async move {
        app.answer_task(&caller, task, input_id, value).await?;
        Ok(Reply::empty())
    };
    once.run_live(&state, &principal, &[&body.bytes], work)
        .await
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct BlobQuery {
    /// Which of the task's blobs, such as a piece of evidence; its result when absent.
    digest: Option<String>,
}

/// A large result of a task, or a blob of its evidence. Of an attached call it can be had for as
/// long as the server remembers the call.
#[utoipa::path(get, path = "/api/tasks/{id}/blob", tag = "tasks",
    params(("id" = String, Path, description = "The task's id"), BlobQuery),
    responses((status = 200, body = [u8], content_type = "application/octet-stream")))]
async fn task_blob(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    id: Id,
    Params(params): Params<BlobQuery>,
) -> Result<Response, Failure> {
    require(&principal, Scope::Read)?;
    let task: TaskId = id.parse()?;
    let blobs = blobs_of(&state, &principal, task).await?;
    let found = match &params.digest {
        Some(digest) => blobs
            .into_iter()
            .find(|blob| blob.digest.as_str() == digest),
        None => blobs.into_iter().next(),
    };
    let blob = found.ok_or_else(|| Error::not_found("such blob of task", task))?;
    let file = state
        .app
        .blobs
        .get(principal.tenant, &blob.digest)
        .await
        .map_err(Error::from)?;
    let file = file.ok_or_else(|| Error::not_found("blob", &blob.digest))?;
    Ok(download(Body::from_stream(ReaderStream::new(file)), &blob))
}

/// What a blob is, is its agent's word: a browser must neither run nor guess it.
fn download(body: Body, blob: &BlobRef) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let octets = HeaderValue::from_static("application/octet-stream");
    let media = HeaderValue::from_str(&blob.media_type).unwrap_or(octets);
    headers.insert(header::CONTENT_TYPE, media);
    headers.insert(header::CONTENT_LENGTH, blob.size_bytes.into());
    headers.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("sandbox"),
    );
    response
}

async fn blobs_of(
    state: &HandlerState,
    principal: &Principal,
    task: TaskId,
) -> Result<Vec<BlobRef>, Error> {
    if let Some(recent) = state.recent.of(principal.tenant, task) {
        return Ok(recent);
    }
    let record = state.app.get_task(principal, task).await?;
    match &record.row.outcome {
        Some(Outcome::Success(success)) => Ok(success.blobs().cloned().collect()),
        _ => {
            let message = format!("task {task} has no result ({})", record.row.state);
            Err(Error::new(Code::Conflict, message))
        }
    }
}

/// What the API shows of a task.
pub(crate) fn view(task: &TaskRecord) -> TaskView {
    let row = &task.row;
    TaskView {
        id: row.id,
        agent: row.agent_name.to_string(),
        agent_id: row.agent,
        capability: row.capability.clone(),
        state: row.state,
        cancel: row.cancel,
        attempt: row.attempt,
        outcome: row.outcome.as_ref().map(|o| outcome::outcome(row.id, o)),
        idempotency_key: row.idempotency_key.clone(),
        caller: row.caller.clone(),
        deadline: row.deadline.map(Into::into),
        created_at: row.created_at.into(),
        updated_at: row.updated_at.into(),
    }
}
