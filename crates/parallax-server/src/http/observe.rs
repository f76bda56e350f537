//! The outermost layer: names every request, writes its problem, its log line and its metrics.

use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use parallax_core::id;
use tokio::time::Instant;
use tracing::Instrument;

use super::problem;
use super::state::HandlerState;
use crate::clock::random;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken over from a caller.
const LONGEST_ID: usize = 128;

/// Names a request in the log, in the answer's `x-request-id` and in problems.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) Arc<str>);

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts
            .extensions
            .get::<Self>()
            .cloned()
            .unwrap_or_else(|| Self("".into())))
    }
}

pub(crate) async fn observe(
    State(state): State<HandlerState>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = given(request.headers()).unwrap_or_else(|| {
        id::RequestId::new(state.app.clock.now(), random())
            .to_string()
            .into()
    });
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("unmatched", MatchedPath::as_str);
    let method = request.method().clone();
    let span = tracing::info_span!(
        "request", request_id = %id, %method, route, caller = tracing::field::Empty
    );
    let started = Instant::now();
    let response = next.run(request).instrument(span.clone()).await;
    let mut response = problem::finish(response, &id);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    state.metrics.answered(&method, route, response.status());
    let status = response.status().as_u16();
    let elapsed_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    if status >= 500 {
        tracing::warn!(parent: &span, status, elapsed_us, "answered");
    } else {
        tracing::debug!(parent: &span, status, elapsed_us, "answered");
    }
    response
}

/// A caller's own id, where it cannot do harm in a log or a header.
fn given(headers: &HeaderMap) -> Option<Arc<str>> {
    let text = headers.get(REQUEST_ID)?.to_str().ok()?;
    let harmless = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    let taken = !text.is_empty() && text.len() <= LONGEST_ID && text.bytes().all(harmless);
    taken.then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, value.parse().expect("a header's value"));
        assert_eq!(given(&headers).is_some(), expected, "{value}");
    }

    #[test]
    fn a_callers_id_is_taken_over_when_it_is_harmless() {
        check("5f2b-17.a_b", true);
        check("", false);
        check("a b", false);
        check("x\";rm", false);
        check(&"a".repeat(129), false);
    }
}
