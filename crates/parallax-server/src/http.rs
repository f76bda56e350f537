//! The HTTP side: routes, problem documents, streams. Handlers hold no rules.
//!
//! ```text
//! request ─▶ observe ─▶ origin ─▶ authenticate ─▶ handler (one file per resource) ─▶ app
//!            request id,                          └▶ gRPC services
//!            log, metrics
//! ```
//!
//! The layers lie around the whole port, gRPC included. The OpenAPI document is generated from the
//! handlers; `openapi/parallax-v1.json` is its committed copy.

mod agents;
mod authenticate;
mod body;
mod deploy;
mod events;
mod gate;
mod hosts;
mod idempotency;
mod invoke;
mod keys;
mod logs;
mod metrics;
mod observe;
mod operations;
mod origin;
mod outcome;
mod problem;
mod query;
pub mod reference;
mod registry;
mod stream;
mod tasks;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use parallax_core::error::{Code, Error};
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use gate::Gate;
use problem::Failure;

/// JSON bodies: room for the largest inline value and its envelope.
const MAX_BODY_BYTES: usize = 1024 * 1024;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Parallax",
        description = "Hosts and orchestrates AI agents. Every request needs `Authorization: Bearer` with an API key, unless it says otherwise. Errors are `application/problem+json` (RFC 9457).",
    ),
    components(schemas(parallax_api::Problem))
)]
struct Document;

/// HTTP and gRPC behind one authentication layer.
pub fn serve(app: &Arc<App>, grpc: Router) -> Router {
    let gate = Gate::new(app);
    let (http, _) = routes().with_state(gate.clone()).split_for_parts();
    http.layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .merge(grpc.reset_fallback())
        .fallback(unmatched)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(gate.clone(), authenticate::authenticate))
        .layer(from_fn(origin::check))
        .layer(from_fn_with_state(gate, observe::observe))
}

/// The OpenAPI 3.1 document of every route.
#[must_use]
pub fn openapi() -> OpenApi {
    routes().into_openapi()
}

fn routes() -> OpenApiRouter<Gate> {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(agents::routes())
        .merge(deploy::routes())
        .merge(invoke::routes())
        .merge(tasks::routes())
        .merge(logs::routes())
        .merge(events::routes())
        .merge(registry::routes())
        .merge(hosts::routes())
        .merge(keys::routes())
        .merge(operations::routes())
}

async fn unmatched(request: Request) -> Response {
    if authenticate::is_grpc(request.headers()) {
        return tonic::Status::unimplemented("no such rpc in this release").into_http();
    }
    let message = format!(
        "there is no `{}` here; docs/reference/http.md lists every route",
        request.uri().path()
    );
    Failure::from(Error::new(Code::NotFound, message)).into_response()
}

async fn wrong_method(request: Request) -> Response {
    let message = format!(
        "`{}` does not take {}",
        request.uri().path(),
        request.method()
    );
    Failure::from(Error::invalid(message)).into_response()
}
