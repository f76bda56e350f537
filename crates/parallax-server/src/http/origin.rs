//! Keeps other web pages from acting through somebody's browser.

use axum::extract::Request;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parallax_core::error::{Code, Error};

use super::problem::Failure;

/// Refuses what a browser sends on behalf of a page of another origin, unless it only reads.
/// Programs send no `Origin` and are not concerned.
pub(crate) async fn check(request: Request, next: Next) -> Response {
    let reads = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    if reads
        || is_same(
            request.headers(),
            request.uri().authority().map(|a| a.as_str()),
        )
    {
        return next.run(request).await;
    }
    let message = "a page of another origin may not change anything here";
    Failure::from(Error::new(Code::Forbidden, message)).into_response()
}

fn is_same(headers: &HeaderMap, authority: Option<&str>) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let host = headers
        .get(header::HOST)
        .and_then(|h| h.to_str().ok())
        .or(authority);
    let origin = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"));
    matches!((origin, host), (Some((_, origin)), Some(host)) if origin == host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_origin_may_act() {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::HOST,
            "127.0.0.1:7400".parse().expect("a header's value"),
        );
        assert!(is_same(&headers, None));
        headers.insert(
            header::ORIGIN,
            "http://127.0.0.1:7400".parse().expect("a header's value"),
        );
        assert!(is_same(&headers, None));
        headers.insert(
            header::ORIGIN,
            "http://evil.example".parse().expect("a header's value"),
        );
        assert!(!is_same(&headers, None));
        headers.insert(header::ORIGIN, "null".parse().expect("a header's value"));
        assert!(!is_same(&headers, None));
    }
}
