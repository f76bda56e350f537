//! The HTTP side: routes, problem documents, streams. Handlers hold no rules.
//!
//! ```text
//! request ─▶ observe ─▶ origin ─▶ authenticate ─▶ handler (one file per resource) ─▶ app
//!            request id,                          └▶ gRPC services
//!            problem body, log, metrics
//! ```
//!
//! The layers lie around the whole port, gRPC included. The OpenAPI document is generated from the
//! handlers; `openapi/parallax-v1.json` is its committed copy.

mod agents;
mod authenticate;
mod body;
mod deploy;
mod events;
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
mod pieces;
mod problem;
mod query;
pub mod reference;
mod registry;
mod state;
mod status;
mod stream;
mod tasks;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use parallax_core::error::{Code, Error};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use problem::Failure;
use state::HandlerState;

/// HTTP and gRPC behind one authentication layer.
pub fn serve(app: &Arc<App>, grpc: Router) -> Router {
    let state = HandlerState::new(app);
    let (http, _) = routes().with_state(state.clone()).split_for_parts();
    http.merge(grpc.reset_fallback())
        .fallback(unmatched)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(
            state.clone(),
            authenticate::authenticate,
        ))
        .layer(from_fn(origin::check))
        .layer(from_fn_with_state(state, observe::observe))
}

/// The HTTP routes alone, and what they are.
pub fn router(app: &Arc<App>) -> (Router, OpenApi) {
    (serve(app, Router::new()), openapi())
}

/// The OpenAPI 3.1 document, generated from the handlers.
#[must_use]
pub fn openapi() -> OpenApi {
    let (_, api) = routes().split_for_parts();
    reference::complete(api)
}

fn routes() -> OpenApiRouter<HandlerState> {
    OpenApiRouter::new()
        .merge(agents::routes())
        .merge(deploy::routes())
        .merge(status::routes())
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
    Failure::from(Error::new(Code::MethodNotAllowed, message)).into_response()
}

#[cfg(test)]
mod tests;
