//! The authentication layer around the whole port, HTTP and gRPC alike.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parallax_core::error::{Code, Error};
use parallax_core::key::Principal;

use super::problem::Failure;
use super::state::HandlerState;

/// Paths that answer anybody: they say whether the server is up, and nothing else.
pub(crate) const OPEN: [&str; 2] = ["/healthz", "/readyz"];
const OPEN_RPCS: &str = "/grpc.health.v1.Health/";

/// Lets a request through with its [`Principal`] in the extensions, or refuses it.
pub(crate) async fn authenticate(
    State(state): State<HandlerState>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    if OPEN.contains(&path) || path.starts_with(OPEN_RPCS) {
        return next.run(request).await;
    }
    let found = match bearer(request.headers()) {
        Some(text) => state.app.auth.authenticate(text).await,
        None => Err(Error::new(
            Code::Unauthenticated,
            "no credential was sent; pass an API key as `Authorization: Bearer plx_key_…`",
        )),
    };
    match found {
        Ok(principal) => {
            tracing::Span::current().record("caller", principal.name.as_str());
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(error) if is_grpc(request.headers()) => crate::grpc::status(&error).into_http(),
        Err(error) => Failure::from(error).into_response(),
    }
}

/// Whether a request came from a gRPC client, which reads failures in its own way.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    content.is_some_and(|content| content.starts_with("application/grpc"))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credential) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| credential.trim())
}

/// Who asks.
pub(crate) struct Caller(pub(crate) Principal);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let principal = parts.extensions.get::<Principal>().cloned();
        let missing = || Error::internal("the authentication layer is missing").into();
        principal.map(Self).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::AUTHORIZATION,
            value.parse().expect("a header's value"),
        );
        assert_eq!(bearer(&headers), expected, "{value}");
    }

    #[test]
    fn only_bearer_credentials_are_read() {
        check("Bearer abc", Some("abc"));
        check("bearer  abc", Some("abc"));
        check("Basic abc", None);
        check("Bearerabc", None);
    }
}
