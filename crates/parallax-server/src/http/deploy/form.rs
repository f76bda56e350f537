//! The multipart form of a deployment, read part by part.

use std::time::Duration;

use axum::extract::Multipart;
use axum::extract::multipart::{Field, MultipartError};
use bytes::Bytes;
use parallax_core::error::{Code, Error, Result};
use parallax_core::manifest::AgentSpec;
use parallax_store::BlobWriter;

use crate::http::body::{MAX_JSON_BYTES, parse};

/// An upload that stands still for so long is given up.
const STALLED: Duration = Duration::from_secs(60);
/// What is read and thrown away after a refusal, so that the client gets to read the reason.
const DRAINED_BYTES: u64 = 64 * 1024 * 1024;
const DRAINED_FOR: Duration = Duration::from_secs(10);
/// How every gzip file begins (RFC 1952 §2.3.1), with deflate as its method.
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];
/// `true` or `false`, with room to say that it is neither.
const MAX_FLAG_BYTES: usize = 16;

/// The parts that have not been read yet.
pub(super) struct Form {
    parts: Multipart,
}

impl Form {
    pub(super) fn new(parts: Multipart) -> Self {
        Self { parts }
    }

    /// Reads the `spec`.
    ///
    /// # Errors
    /// `invalid_request` for parts out of order, `invalid_spec` for a malformed spec.
    pub(super) async fn spec(&mut self) -> Result<AgentSpec> {
        let Some(mut part) = next(&mut self.parts).await? else {
            return Err(Error::invalid(
                "the form is empty; the first part must be `spec`",
            ));
        };
        if part.name() != Some("spec") {
            return Err(Error::invalid(format!(
                "the first part must be `spec`, not {}",
                name(&part)
            )));
        }
        let json = small(&mut part, MAX_JSON_BYTES).await?;
        drop(part);
        parse(&json)
            .map_err(|error| Error::new(Code::InvalidSpec, format!("`spec`: {}", error.message)))
    }

    /// Reads `suspended`, if it is next, and the `source`; whether each was there and true.
    ///
    /// # Errors
    /// `too_large`, `invalid_source` for what is no gzip, `invalid_request` for an upload that
    /// ends early, and whatever the blob store says.
    pub(super) async fn rest(&mut self, to: &mut BlobWriter) -> Result<(bool, bool)> {
        let mut suspended = false;
        while let Some(mut part) = next(&mut self.parts).await? {
            match part.name() {
                Some("suspended") => suspended = flag(&small(&mut part, MAX_FLAG_BYTES).await?)?,
                Some("source") => {
                    store(&mut part, to).await?;
                    drop(part);
                    return match next(&mut self.parts).await? {
                        None => Ok((suspended, true)),
                        Some(extra) => Err(Error::invalid(format!(
                            "the `source` must be the last part; after it came {}",
                            name(&extra)
                        ))),
                    };
                }
                _ => {
                    let message = format!("expected the part `source`, not {}", name(&part));
                    return Err(Error::invalid(message));
                }
            }
        }
        Ok((suspended, false))
    }

    /// Reads on without looking, for a while.
    pub(super) async fn drain(mut self) {
        let reading = async {
            let mut left = DRAINED_BYTES;
            while let Ok(Some(mut part)) = self.parts.next_field().await {
                while let Ok(Some(data)) = part.chunk().await {
                    left = left.saturating_sub(data.len() as u64);
                    if left == 0 {
                        return;
                    }
                }
            }
        };
        // Whether it got to the end makes no difference: the refusal is sent either way.
        let _ = tokio::time::timeout(DRAINED_FOR, reading).await;
    }
}

async fn store(part: &mut Field<'_>, to: &mut BlobWriter) -> Result<()> {
    let mut start = Vec::with_capacity(GZIP.len());
    while let Some(data) = chunk(part).await? {
        let missing = GZIP.len() - start.len();
        start.extend_from_slice(&data[..missing.min(data.len())]);
        if !GZIP.starts_with(&start) {
            return Err(not_gzip());
        }
        to.write(&data).await.map_err(named)?;
    }
    if start.len() < GZIP.len() {
        return Err(not_gzip());
    }
    Ok(())
}

fn flag(text: &[u8]) -> Result<bool> {
    match text {
        b"true" => Ok(true),
        b"false" => Ok(false),
        _ => Err(Error::invalid(
            "the part `suspended` must be `true` or `false`",
        )),
    }
}

/// Says that it is the source that a limit was about.
fn named(error: parallax_store::BlobError) -> Error {
    let error = Error::from(error);
    match error.code {
        Code::TooLarge => Error::new(Code::TooLarge, format!("the source is {}", error.message)),
        _ => error,
    }
}

fn not_gzip() -> Error {
    let message = "the `source` is not a gzip file; send a tar archive compressed with gzip";
    Error::new(Code::InvalidSource, message)
}

fn name(part: &Field<'_>) -> String {
    match part.name() {
        Some(name) => format!("`{}`", name.escape_debug()),
        None => "one without a name".to_owned(),
    }
}

async fn next(parts: &mut Multipart) -> Result<Option<Field<'_>>> {
    let waited = tokio::time::timeout(STALLED, parts.next_field()).await;
    waited.map_err(|_| stalled())?.map_err(broken)
}

async fn chunk(part: &mut Field<'_>) -> Result<Option<Bytes>> {
    let waited = tokio::time::timeout(STALLED, part.chunk()).await;
    waited.map_err(|_| stalled())?.map_err(broken)
}

async fn small(part: &mut Field<'_>, limit: usize) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(data) = chunk(part).await? {
        all.extend_from_slice(&data);
        if all.len() > limit {
            let message = format!("the part {} may have at most {limit} bytes", name(part));
            return Err(Error::new(Code::TooLarge, message));
        }
    }
    Ok(all)
}

fn stalled() -> Error {
    Error::invalid(format!(
        "the upload stood still for {} seconds",
        STALLED.as_secs()
    ))
}

fn broken(error: MultipartError) -> Error {
    Error::invalid("the upload ended early or is no well-formed multipart/form-data; send it again")
        .caused_by(error)
}
