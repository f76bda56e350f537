//! JSON bodies: strict, small, and refused with a problem.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use parallax_core::error::{Code, Error, Result};
use serde::de::DeserializeOwned;

use super::problem::Failure;

/// Largest JSON body, in bytes. Larger values go through uploads and blobs.
pub(crate) const MAX_JSON_BYTES: usize = 1024 * 1024;
/// How long a caller may take to send one: a mebibyte in this time is 35 kB/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A JSON body, with its bytes for who must tell one request from another.
#[derive(Debug)]
pub(crate) struct Json<T> {
    pub(crate) value: T,
    pub(crate) bytes: Bytes,
}

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        require_json(&parts.headers)?;
        let bytes = read(body).await?;
        Ok(Self {
            value: parse(&bytes)?,
            bytes,
        })
    }
}

/// A JSON body that may be left out.
#[derive(Debug)]
pub(crate) struct OptionalJson<T> {
    pub(crate) value: T,
    pub(crate) bytes: Bytes,
}

impl<T: DeserializeOwned + Default, S: Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let bytes = read(body).await?;
        if bytes.is_empty() {
            return Ok(Self {
                value: T::default(),
                bytes,
            });
        }
        require_json(&parts.headers)?;
        Ok(Self {
            value: parse(&bytes)?,
            bytes,
        })
    }
}

/// Reads JSON, naming the place of a mistake.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|e| Error::invalid(format!("the JSON body cannot be read: {e}")))
}

async fn read(body: Body) -> Result<Bytes> {
    let reading = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_JSON_BYTES).collect());
    let read = reading.await.map_err(|_| {
        let seconds = BODY_TIMEOUT.as_secs();
        Error::invalid(format!("the body did not arrive within {seconds} seconds"))
    })?;
    let read = read.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => Error::new(
            Code::TooLarge,
            format!("a JSON body may have at most {MAX_JSON_BYTES} bytes"),
        ),
        None => Error::invalid("the body ended early").caused_by(error),
    })?;
    Ok(read.to_bytes())
}

fn require_json(headers: &HeaderMap) -> Result<()> {
    let content = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let kind = content.unwrap_or("").split(';').next().unwrap_or("").trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = format!("send the body as `Content-Type: application/json`, not `{kind}`");
    Err(Error::invalid(message))
}
