//! Refuses what a browser sends on behalf of somebody else's page.
//!
//! Credentials are never ambient here (no cookies), so this is the second line: it keeps a page
//! from changing anything with a key that a person typed into it, or that an extension adds.

use axum::extract::Request;
use axum::http::header::HeaderName;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parallax_core::error::{Code, Error};

use super::problem::Failure;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

pub(crate) async fn check(request: Request, next: Next) -> Response {
    let reads = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    if !reads && is_foreign(request.headers(), request.uri()) {
        let message = "a page of another origin may not change anything here; \
                       call the API from your own program";
        return Failure::from(Error::new(Code::Forbidden, message)).into_response();
    }
    next.run(request).await
}

/// Whether a browser says that another site's page sent the request.
fn is_foreign(headers: &HeaderMap, uri: &Uri) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let site = text(FETCH_SITE);
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return true;
    }
    if !headers.contains_key(header::ORIGIN) {
        return false;
    }
    // HTTP/2 has the host in the request's authority.
    let host = uri
        .authority()
        .map(Authority::as_str)
        .or_else(|| text(header::HOST));
    let origin = text(header::ORIGIN).and_then(|origin| origin.split_once("://"));
    origin.is_none_or(|(_, origin)| Some(origin) != host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&'static str, &str)], expected: bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().expect("a header's value"));
        }
        assert_eq!(
            is_foreign(&headers, &Uri::from_static("/api/keys")),
            expected,
            "{pairs:?}"
        );
    }

    #[test]
    fn only_a_browser_on_a_foreign_page_is_refused() {
        let host = ("host", "127.0.0.1:7070");
        check(&[host], false);
        check(&[host, ("origin", "http://127.0.0.1:7070")], false);
        check(&[host, ("origin", "https://evil.example")], true);
        check(&[host, ("origin", "null")], true);
        check(&[host, ("sec-fetch-site", "cross-site")], true);
        check(&[host, ("sec-fetch-site", "same-origin")], false);
    }
}
