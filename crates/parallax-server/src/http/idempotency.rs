//! `Idempotency-Key`: the same key with the same request gets the same answer.
//!
//! The answer is written in the transaction of the change that it tells of ([`Receipt`]): a server
//! that dies has done both or neither. Requests with the same key wait for each other, and the work
//! goes on when its caller hangs up, so that a retry finds the answer. An answer that shows a
//! secret is never kept; only that it was given is.
//!
//! What happens outside the database ([`Idempotency::run_live`]) is answered for once it is done.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use parallax_core::error::{Code, Error, Result};
use parallax_core::id::TenantId;
use parallax_core::key::Principal;
use parallax_core::time::Timestamp;
use parallax_store::idempotency::{self, Answer};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use super::problem::Failure;
use super::state::HandlerState;
use crate::app::Receipt;

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

/// What is kept for a repeated request.
#[derive(Debug)]
pub(crate) enum Kept<T> {
    /// The answer, made of what the change came to.
    Answer(fn(&T) -> Reply),
    /// Only that it was carried out: its answer shows a secret.
    Nothing(StatusCode),
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

    /// Does the work once for each key; `request` is what tells one request from another. The work
    /// hands its receipt to the use case, whose transaction keeps what `kept` says.
    pub(crate) async fn run<T, W>(
        self,
        state: &HandlerState,
        principal: &Principal,
        request: &[&[u8]],
        kept: Kept<T>,
        work: impl FnOnce(Receipt<T>) -> W + Send + 'static,
    ) -> Result<Response, Failure>
    where
        T: 'static,
        W: Future<Output = Result<Reply, Failure>> + Send + 'static,
    {
        let Some(once) = self.once(principal, request) else {
            return Ok(work(Receipt::none()).await?.into_response());
        };
        let secret = matches!(kept, Kept::Nothing(_));
        let receipt = once.receipt(state, kept);
        let work = Box::pin(async move { work(receipt).await });
        once.in_turn(state, secret, work).await
    }

    /// Does work that changes what is live and not what is stored, and keeps its answer after it.
    /// A server that dies in between takes what was live with it.
    pub(crate) async fn run_live<W>(
        self,
        state: &HandlerState,
        principal: &Principal,
        request: &[&[u8]],
        work: W,
    ) -> Result<Response, Failure>
    where
        W: Future<Output = Result<Reply, Failure>> + Send + 'static,
    {
        let Some(once) = self.once(principal, request) else {
            return Ok(work.await?.into_response());
        };
        let (app, asked) = (Arc::clone(&state.app), once.clone());
        let work = async move {
            let reply = work.await?;
            let now = app.clock.now();
            let answer = asked.answer(reply.status, reply.body.clone(), now);
            let kept = app.store.write(asked.tenant, answer, move |tx, answer| {
                Box::pin(async move { idempotency::put(tx, answer, now).await })
            });
            if let Err(error) = kept.await {
                // The work is done; its answer is worth more than the promise about a repetition.
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot keep an answer"
                );
            }
            Ok(reply)
        };
        once.in_turn(state, false, Box::pin(work)).await
    }

    fn once(self, principal: &Principal, request: &[&[u8]]) -> Option<Once> {
        Some(Once {
            key: self.key?,
            route: self.route,
            hash: hash(request),
            tenant: principal.tenant,
        })
    }
}

/// A request that is carried out once.
#[derive(Debug, Clone)]
struct Once {
    key: String,
    route: String,
    hash: Vec<u8>,
    tenant: TenantId,
}

impl Once {
    fn receipt<T: 'static>(&self, state: &HandlerState, kept: Kept<T>) -> Receipt<T> {
        let (once, now) = (self.clone(), state.app.clock.now());
        Receipt::new(now, move |change| {
            let (status, body) = match &kept {
                Kept::Answer(answer) => {
                    let reply = answer(change);
                    (reply.status, reply.body)
                }
                Kept::Nothing(status) => (*status, Vec::new()),
            };
            once.answer(status, body, now)
        })
    }

    fn answer(&self, status: StatusCode, body: Vec<u8>, now: Timestamp) -> Answer {
        Answer {
            key: self.key.clone(),
            route: self.route.clone(),
            request_hash: self.hash.clone(),
            status: status.as_u16(),
            content_type: "application/json".to_owned(),
            body,
            expires_at: now.plus(KEPT),
        }
    }

    /// Does the work in a task of its own, which goes on when the caller hangs up, unless it was
    /// done before.
    async fn in_turn(
        self,
        state: &HandlerState,
        secret: bool,
        work: BoxFuture<'static, Result<Reply, Failure>>,
    ) -> Result<Response, Failure> {
        let state = state.clone();
        let app = Arc::clone(&state.app);
        let done = app.tasks.spawn(async move {
            let turn = state
                .turns
                .of((self.tenant, &self.key, &self.route))
                .lock()
                .await;
            let response = match self.earlier(&state, secret).await? {
                Some(replayed) => Ok(replayed),
                None => work.await.map(IntoResponse::into_response),
            };
            drop(turn);
            response
        });
        done.await.map_err(|e| Failure::from(Error::internal(e)))?
    }

    async fn earlier(
        &self,
        state: &HandlerState,
        secret: bool,
    ) -> Result<Option<Response>, Failure> {
        let mut tx = state.app.store.read(self.tenant).await?;
        let now = state.app.clock.now();
        let found = idempotency::get(&mut tx, &self.key, &self.route, now).await?;
        drop(tx);
        let Some(answer) = found else { return Ok(None) };
        if answer.request_hash != self.hash {
            let message = "this Idempotency-Key was used for a different request; choose another";
            return Err(Error::new(Code::IdempotencyMismatch, message).into());
        }
        if secret {
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
mod tests;
