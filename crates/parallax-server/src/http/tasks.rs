//! `/api/tasks`: durable tasks.

use axum::Json;
use axum::body::Body as ResponseBody;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parallax_api::Page;
use parallax_api::tasks as api;
use parallax_core::error::{Code, Error};
use parallax_core::id::TaskId;
use parallax_core::name::Name;
use parallax_core::task::TaskState;
use parallax_proto::v1;
use parallax_store::Listed;
use tokio_util::io::ReaderStream;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::authenticate::Caller;
use super::body::{Body, Query};
use super::gate::Gate;
use super::outcome::task_view;
use super::problem::Failure;
use super::query::Paging;
use super::stream::{Format, Item, over, respond, resume};

pub(super) fn routes() -> OpenApiRouter<Gate> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(events))
        .routes(routes!(cancel))
        .routes(routes!(input))
        .routes(routes!(blob))
}

#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// At most 500; 100 when absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Only tasks of this agent, by name.
    agent: Option<String>,
    /// Only tasks in this state.
    state: Option<String>,
}

/// Durable tasks, newest first.
#[utoipa::path(get, path = "/api/tasks", params(ListQuery), responses((status = 200, body = Page<api::TaskView>)), tag = "tasks")]
async fn list(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<api::TaskView>>, Failure> {
    let agent: Option<Name> = match &query.agent {
        Some(text) => Some(
            text.parse()
                .map_err(|e| Error::invalid(format!("`agent`: {e}")))?,
        ),
        None => None,
    };
    let state: Option<TaskState> = match &query.state {
        Some(text) => Some(
            text.parse()
                .map_err(|e| Error::invalid(format!("`state`: {e}")))?,
        ),
        None => None,
    };
    let paging = Paging {
        limit: query.limit,
        cursor: query.cursor,
    };
    let Listed { items, more } = gate
        .app
        .list_tasks(&principal, agent, state, &paging.page()?)
        .await?;
    let next_cursor = items
        .last()
        .filter(|_| more)
        .map(|task| task.row.id.to_string());
    let items = items.into_iter().map(task_view).collect::<Result<_, _>>()?;
    Ok(Json(Page { items, next_cursor }))
}

/// One durable task.
#[utoipa::path(get, path = "/api/tasks/{id}", params(("id" = String, Path,)), responses((status = 200, body = api::TaskView)), tag = "tasks")]
async fn get(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Path(id): Path<String>,
) -> Result<Json<api::TaskView>, Failure> {
    Ok(Json(task_view(
        gate.app.get_task(&principal, parse(&id)?).await?,
    )?))
}

#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// Events after this cursor; `Last-Event-ID` wins.
    after: Option<String>,
}

/// A task's changes, as server-sent events or a JSON document a line; ends after the last.
#[utoipa::path(get, path = "/api/tasks/{id}/events", params(("id" = String, Path,), EventsQuery), responses((status = 200, body = api::TaskEventView, content_type = "text/event-stream")), tag = "tasks")]
async fn events(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Path(id): Path<String>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let after = match resume(&headers, query.after) {
        Some(cursor) => cursor
            .parse()
            .map_err(|_| Error::invalid("the cursor is not one of this stream"))?,
        None => 0,
    };
    let mut watch = gate.app.watch_task(&principal, parse(&id)?, after).await?;
    let items = async_stream::stream! {
        let end = over(&gate, &principal);
        tokio::pin!(end);
        loop {
            let change = tokio::select! {
                change = watch.next() => change,
                _ = &mut end => break,
            };
            // A reader whose stream breaks off resumes from its cursor.
            let Some(Ok(change)) = change else { break };
            let text = format!("{} {}", change.at, change.kind);
            let (cursor, at, kind) = (change.cursor, change.at.into(), change.kind);
            let Ok(task) = task_view(change.task) else { break };
            yield Item { cursor: Some(cursor.to_string()), data: api::TaskEventView { cursor, at, kind, task }, text };
        }
    };
    Ok(respond(Format::wanted(&headers), items))
}

/// Asks for a stop.
#[utoipa::path(post, path = "/api/tasks/{id}/cancel", params(("id" = String, Path,)), request_body = api::CancelRequest, responses((status = 200, body = api::TaskView)), tag = "tasks")]
async fn cancel(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Path(id): Path<String>,
    Body(body): Body<api::CancelRequest>,
) -> Result<Json<api::TaskView>, Failure> {
    Ok(Json(task_view(
        gate.app
            .cancel_task(&principal, parse(&id)?, &body.reason)
            .await?,
    )?))
}

/// Answers a question of a running task.
#[utoipa::path(post, path = "/api/tasks/{id}/input", params(("id" = String, Path,)), request_body = api::TaskInput, responses((status = 204)), tag = "tasks")]
async fn input(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Path(id): Path<String>,
    Body(body): Body<api::TaskInput>,
) -> Result<StatusCode, Failure> {
    let json = body.value.get().to_owned().into_bytes();
    let value = v1::Payload {
        content: Some(v1::payload::Content::Json(json.into())),
    };
    gate.app
        .answer_task(&principal, parse(&id)?, body.input_id, value)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The value of a task that was too large to be sent along.
#[utoipa::path(get, path = "/api/tasks/{id}/blob", params(("id" = String, Path,)), responses((status = 200, description = "The value", content_type = "application/octet-stream")), tag = "tasks")]
async fn blob(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let task = gate.app.get_task(&principal, parse(&id)?).await?;
    let answer = task_view(task)?
        .outcome
        .and_then(|o| o.answer)
        .and_then(|a| a.blob);
    let blob =
        answer.ok_or_else(|| Error::new(Code::NotFound, "this task has no blob as its value"))?;
    let digest = blob.digest.parse().map_err(Error::internal)?;
    let file = gate
        .app
        .blobs
        .get(principal.tenant, &digest)
        .await
        .map_err(Error::from)?;
    let file = file.ok_or_else(|| Error::not_found("blob", &blob.digest))?;
    let media = if blob.media_type.is_empty() {
        "application/json".to_owned()
    } else {
        blob.media_type
    };
    let body = ResponseBody::from_stream(ReaderStream::new(file));
    Ok(([(header::CONTENT_TYPE, media)], body).into_response())
}

fn parse(id: &str) -> Result<TaskId, Error> {
    id.parse().map_err(|e| Error::invalid(format!("{e}")))
}
