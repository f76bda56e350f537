//! `Idempotency-Key`: the same key with the same request gets the same answer.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parallax_core::error::{Code, Error};
use parallax_core::key::Principal;
use parallax_store::idempotency::{self, Answer};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::gate::Gate;
use super::problem::Failure;

/// How long an answer is kept: a day, as clients' retries have it.
const KEPT: Duration = Duration::from_secs(24 * 3600);
const MAX_KEY: usize = 255;

/// The caller's key, if it sent one.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= MAX_KEY => Ok(Some(key.to_owned())),
        _ => Err(Error::invalid(format!(
            "`Idempotency-Key` must have 1 to {MAX_KEY} ASCII characters"
        ))
        .into()),
    }
}

/// Carries out a change once for each key. `request` says all of it, so that another request under
/// the same key is told apart.
pub(super) async fn once<V: Serialize>(
    gate: &Gate,
    principal: &Principal,
    headers: &HeaderMap,
    request: &str,
    change: impl Future<Output = Result<(StatusCode, V), Failure>>,
) -> Result<Response, Failure> {
    let Some(key) = key(headers)? else {
        let (status, view) = change.await?;
        return Ok((status, axum::Json(view)).into_response());
    };
    let (app, now) = (&gate.app, gate.app.clock.now());
    let hash = Sha256::digest(request.as_bytes()).to_vec();
    let route = "http";
    let mut tx = app
        .store
        .read(principal.tenant)
        .await
        .map_err(Error::from)?;
    let known = idempotency::get(&mut tx, &key, route, now)
        .await
        .map_err(Error::from)?;
    drop(tx);
    if let Some(known) = known {
        return again(known, &hash);
    }
    let (status, view) = change.await?;
    let answer = Answer {
        key,
        route: route.to_owned(),
        request_hash: hash,
        status: status.as_u16(),
        content_type: "application/json".to_owned(),
        body: serde_json::to_vec(&view).map_err(Error::internal)?,
        expires_at: now.plus(KEPT),
    };
    let given = answer.clone();
    let kept = app.store.write(principal.tenant, given, move |tx, answer| {
        Box::pin(idempotency::put(tx, answer, now))
    });
    if let Err(error) = kept.await {
        // The change is made, and is one that may be asked for twice: only the memory of it failed.
        tracing::warn!(%error, "cannot keep the answer to a request with an idempotency key");
    }
    Ok(render(&answer))
}

fn again(known: Answer, hash: &[u8]) -> Result<Response, Failure> {
    if known.request_hash == hash {
        return Ok(render(&known));
    }
    let message = "this Idempotency-Key was used for another request";
    Err(Error::new(Code::IdempotencyMismatch, message).into())
}

fn render(answer: &Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    (
        status,
        [(header::CONTENT_TYPE, answer.content_type.clone())],
        answer.body.clone(),
    )
        .into_response()
}
