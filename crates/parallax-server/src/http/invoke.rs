//! `POST /api/agents/{id}/invoke`: attached by default, durable on request.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parallax_api::tasks as api;
use parallax_proto::v1;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::authenticate::Caller;
use super::body::Body;
use super::gate::Gate;
use super::problem::Failure;
use super::{idempotency, outcome};
use crate::app::invoke::InvokeRequest;
use crate::app::tasks::Submission;
use crate::dispatch::{CallContext, Outcome};

pub(super) fn routes() -> OpenApiRouter<Gate> {
    OpenApiRouter::new().routes(routes!(invoke))
}

/// Calls an agent. With `Idempotency-Key` or `Prefer: respond-async` the call becomes a durable
/// task: committed before the answer, and kept through restarts of everything. Otherwise it is
/// attached: closing the connection cancels it.
#[utoipa::path(post, path = "/api/agents/{id}/invoke", params(("id" = String, Path, description = "Id or name")),
    request_body = api::InvokeRequest,
    responses((status = 200, body = api::InvokeResponse), (status = 202, description = "Durable", body = api::TaskView)), tag = "tasks")]
async fn invoke(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(body): Body<api::InvokeRequest>,
) -> Result<Response, Failure> {
    let input = body
        .input
        .map_or_else(|| "null".to_owned(), |input| input.get().to_owned());
    let request = InvokeRequest {
        agent: id,
        capability: body.capability,
        input: v1::Payload {
            content: Some(v1::payload::Content::Json(input.into_bytes().into())),
        },
        deadline: body.deadline_ms.map(Duration::from_millis),
        context: context(&headers, body.context_id),
    };
    let idempotency_key = idempotency::key(&headers)?;
    if idempotency_key.is_some() || prefers_async(&headers) {
        let task = gate
            .app
            .submit_task(
                &principal,
                Submission {
                    request,
                    idempotency_key,
                },
            )
            .await?;
        let location = format!("/api/tasks/{}", task.row.id);
        let view = outcome::task_view(task)?;
        return Ok((
            StatusCode::ACCEPTED,
            [(header::LOCATION, location)],
            Json(view),
        )
            .into_response());
    }
    let attached = gate.app.invoke(&principal, request).await?;
    let task = attached.task;
    match attached.outcome().await {
        Outcome::Success(success) => Ok(Json(outcome::answer(task, success)?).into_response()),
        Outcome::Problem(problem) => Err(Failure::of_task(problem, task.to_string())),
    }
}

fn prefers_async(headers: &HeaderMap) -> bool {
    let values = headers
        .get_all("prefer")
        .iter()
        .filter_map(|v| v.to_str().ok());
    values
        .flat_map(|v| v.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case("respond-async"))
}

/// W3C trace context as it came in, for the agent.
fn context(headers: &HeaderMap, context_id: Option<String>) -> CallContext {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    CallContext {
        traceparent: text("traceparent"),
        tracestate: text("tracestate"),
        baggage: text("baggage"),
        context_id: context_id.unwrap_or_default(),
        ..CallContext::default()
    }
}
