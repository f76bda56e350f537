//! `Idempotency-Key`: the same key with the same request gets the same answer.
//!
//! The answer is kept once the work is done. Requests with the same key wait for each other, and
//! the work goes on when its caller hangs up, so that a retry finds the answer. Only a server that
//! dies between the two lets a retry do the work again. An answer that shows a secret is never
//! kept.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parallax_core::error::{Code, Error, Result};
use parallax_core::id::TenantId;
use parallax_core::key::Principal;
use parallax_store::idempotency::{self, Answer};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use super::gate::Gate;
use super::problem::Failure;

const HEADER: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Longest key, in bytes.
const MAX_KEY: usize = 255;
/// How long an answer is kept: longer than any client keeps trying.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Locks for keys in use; two keys may share one, which costs a wait and nothing else.
const STRIPES: usize = 64;

/// Makes requests with the same key wait for each other.
pub(crate) struct Turns([Mutex<()>; STRIPES]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }
}

impl Turns {
    fn of(&self, what: impl Hash) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % STRIPES as u64).unwrap_or(0);
        &self.0[index]
    }
}

/// Whether an answer may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    Answer,
    /// It shows a secret: a repeated request is told so instead.
    Nothing,
}

/// What a mutation answers with: a status and JSON (empty for none).
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(status: StatusCode, body: &impl serde::Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("responses have only string keys");
        Self { status, body }
    }

    pub(crate) fn empty() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            body: Vec::new(),
        }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let location = location(&self.body);
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        if !self.body.is_empty() {
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            *response.body_mut() = Body::from(self.body);
        }
        if let Some(location) = location {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

/// A reply that names the place of its status says so in its headers too.
fn location(body: &[u8]) -> Option<HeaderValue> {
    #[derive(serde::Deserialize)]
    struct Located {
        status_url: String,
    }
    let located: Located = serde_json::from_slice(body).ok()?;
    HeaderValue::from_str(&located.status_url).ok()
}

/// The key of a request, and its route.
#[derive(Debug)]
pub(crate) struct Idempotency {
    key: Option<String>,
    route: String,
}

impl<S: Sync> FromRequestParts<S> for Idempotency {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let route = format!("{} {}", parts.method, parts.uri.path());
        Ok(Self {
            key: key(parts)?,
            route,
        })
    }
}

fn key(parts: &Parts) -> Result<Option<String>> {
    let Some(value) = parts.headers.get(HEADER) else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .ok()
        .filter(|t| (1..=MAX_KEY).contains(&t.len()));
    let text = text.filter(|t| t.bytes().all(|c| c.is_ascii_graphic()));
    let wrong = || {
        let message = format!("`Idempotency-Key` must be 1 to {MAX_KEY} visible ASCII characters");
        Error::invalid(message)
    };
    text.map(|t| Some(t.to_owned())).ok_or_else(wrong)
}

impl Idempotency {
    /// The key alone, for who keeps answers in a way of its own.
    pub(crate) fn into_key(self) -> Option<String> {
        self.key
    }

    /// Does the work once for each key; `request` is what tells one request from another.
    pub(crate) async fn run<W>(
        self,
        gate: &Gate,
        principal: &Principal,
        request: &[&[u8]],
        keep: Keep,
        work: W,
    ) -> Result<Response, Failure>
    where
        W: Future<Output = Result<Reply, Failure>> + Send + 'static,
    {
        let Some(key) = self.key else {
            return Ok(work.await?.into_response());
        };
        let hash = hash(request);
        let once = Once {
            key,
            route: self.route,
            hash,
            tenant: principal.tenant,
            keep,
        };
        let gate = gate.clone();
        let app = Arc::clone(&gate.app);
        // A task of its own: it goes on when the caller hangs up.
        let done = app.tasks.spawn(async move {
            let turn = gate
                .turns
                .of((once.tenant, &once.key, &once.route))
                .lock()
                .await;
            let response = match once.earlier(&gate).await? {
                Some(replayed) => Ok(replayed),
                None => once.first(&gate, work).await,
            };
            drop(turn);
            response
        });
        done.await.map_err(|e| Failure::from(Error::internal(e)))?
    }
}

struct Once {
    key: String,
    route: String,
    hash: Vec<u8>,
    tenant: TenantId,
    keep: Keep,
}

impl Once {
    async fn earlier(&self, gate: &Gate) -> Result<Option<Response>, Failure> {
        let mut tx = gate.app.store.read(self.tenant).await?;
        let now = gate.app.clock.now();
        let found = idempotency::get(&mut tx, &self.key, &self.route, now).await?;
        drop(tx);
        let Some(answer) = found else { return Ok(None) };
        if answer.request_hash != self.hash {
            let message = "this Idempotency-Key was used for a different request; choose another";
            return Err(Error::new(Code::IdempotencyMismatch, message).into());
        }
        if self.keep == Keep::Nothing {
            let message = "this request was carried out before, and its secret was shown then; it \
                           is not kept. If it was lost, revoke that key and make another one with \
                           a new Idempotency-Key";
            return Err(Error::new(Code::Conflict, message).into());
        }
        let status = StatusCode::from_u16(answer.status).map_err(Error::internal)?;
        let mut response = Reply {
            status,
            body: answer.body,
        }
        .into_response();
        response
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
        Ok(Some(response))
    }

    async fn first(
        self,
        gate: &Gate,
        work: impl Future<Output = Result<Reply, Failure>>,
    ) -> Result<Response, Failure> {
        let reply = work.await?;
        let now = gate.app.clock.now();
        let answer = Answer {
            key: self.key,
            route: self.route,
            request_hash: self.hash,
            status: reply.status.as_u16(),
            content_type: "application/json".to_owned(),
            body: if self.keep == Keep::Answer {
                reply.body.clone()
            } else {
                Vec::new()
            },
            expires_at: now.plus(KEPT),
        };
        let kept = gate
            .app
            .store
            .write(self.tenant, answer, move |tx, answer| {
                Box::pin(async move { idempotency::put(tx, answer, now).await })
            });
        if let Err(error) = kept.await {
            // The work is done; its answer is worth more than the promise about a repetition.
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot keep an answer"
            );
        }
        Ok(reply.into_response())
    }
}

fn hash(parts: &[&[u8]]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_request_do_not_run_into_each_other() {
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
        assert_eq!(hash(&[b"ab", b"c"]), hash(&[b"ab", b"c"]));
    }

    #[test]
    fn a_reply_that_names_its_status_has_a_location() {
        assert_eq!(
            location(br#"{"status_url":"/api/x"}"#).expect("there is one"),
            "/api/x"
        );
        assert_eq!(location(b"{}"), None);
    }
}
