//! One id, one log line and one count for each request.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use parallax_core::id::RequestId;
use tracing::Instrument;

use super::gate::Gate;
use crate::clock::random;

const HEADER: &str = "x-request-id";

tokio::task_local! {
    static REQUEST_ID: String;
}

/// The id of the request in hand; empty outside of one.
pub(crate) fn request_id() -> String {
    REQUEST_ID.try_with(Clone::clone).unwrap_or_default()
}

/// Gives the request its id, and notes how it went. Neither header nor body is ever logged.
pub(crate) async fn observe(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = RequestId::new(gate.app.clock.now(), random()).to_string();
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |p| p.as_str().to_owned());
    let span = tracing::info_span!("request", request_id = %id, %method, %route, caller = tracing::field::Empty);
    let answer = REQUEST_ID
        .scope(id.clone(), next.run(request))
        .instrument(span.clone());
    let mut response = answer.await;
    let status = response.status();
    gate.metrics
        .answered(&route, method.as_str(), status.as_u16());
    span.in_scope(|| {
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if status.is_server_error() {
            tracing::warn!(status = status.as_u16(), millis, "answered");
        } else {
            tracing::debug!(status = status.as_u16(), millis, "answered");
        }
    });
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HEADER, value);
    }
    response
}
