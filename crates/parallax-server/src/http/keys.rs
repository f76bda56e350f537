//! `/api/keys`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use parallax_api::Page;
use parallax_api::keys::{CreateKey, CreatedKey, KeyView};
use parallax_core::error::Error;
use parallax_core::id::KeyId;
use parallax_core::key::{ApiKey, KeyState};
use parallax_core::name::Name;
use parallax_core::time::Timestamp;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::authenticate::Caller;
use super::body::Json;
use super::idempotency::{Idempotency, Kept, Reply};
use super::problem::Failure;
use super::query::{self, Id, PageQuery, Params};
use super::state::HandlerState;
use crate::app::keys::NewKey;

/// Ten years: longer is "does not expire" and should be said so.
const MAX_TTL_S: u64 = 10 * 366 * 24 * 3600;

pub(crate) fn routes() -> OpenApiRouter<HandlerState> {
    OpenApiRouter::new()
        .routes(routes!(list_keys, create_key))
        .routes(routes!(revoke_key))
}

/// The tenant's keys, revoked ones too; never their secrets.
#[utoipa::path(get, path = "/api/keys", tag = "keys", params(PageQuery),
    responses((status = 200, body = Page<KeyView>)))]
async fn list_keys(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    Params(params): Params<PageQuery>,
) -> Result<axum::Json<Page<KeyView>>, Failure> {
    let listed = state.app.list_keys(&principal, &params.page()?).await?;
    let now = state.app.clock.now();
    Ok(query::listed(
        listed,
        |key| key.id.to_string(),
        |key| view(&key, now),
    ))
}

/// Makes a key; its secret is shown this once.
#[utoipa::path(post, path = "/api/keys", tag = "keys", request_body = CreateKey,
    responses((status = 201, body = CreatedKey)))]
async fn create_key(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    once: Idempotency,
    body: Json<CreateKey>,
) -> Result<Response, Failure> {
    let wanted = new_key(body.value)?;
    let (app, caller) = (Arc::clone(&state.app), principal.clone());
    let work = async move |receipt| {
        let (key, secret) = app.create_key(&caller, wanted, receipt).await?;
        let key = view(&key, app.clock.now());
        let created = CreatedKey {
            key,
            secret: secret.reveal().to_owned(),
        };
        Ok(Reply::json(StatusCode::CREATED, &created))
    };
    let kept = Kept::Nothing(StatusCode::CREATED);
    once.run(&state, &principal, &[&body.bytes], kept, work)
        .await
}

/// Revokes a key: it opens nothing from now on, and what it has open ends within seconds.
#[utoipa::path(delete, path = "/api/keys/{id}", tag = "keys",
    params(("id" = String, Path, description = "The key's id")), responses((status = 204)))]
async fn revoke_key(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    id: Id,
    once: Idempotency,
) -> Result<Response, Failure> {
    let key: KeyId = id.parse()?;
    let (app, caller) = (Arc::clone(&state.app), principal.clone());
    let work = async move |receipt| {
        app.revoke_key(&caller, key, receipt).await?;
        Ok(Reply::empty())
    };
    let kept = Kept::Answer(|()| Reply::empty());
    once.run(&state, &principal, &[], kept, work).await
}

fn new_key(body: CreateKey) -> Result<NewKey, Error> {
    let name = body
        .name
        .parse()
        .map_err(|e| Error::invalid(format!("`name`: {e}")))?;
    let groups = body
        .groups
        .iter()
        .map(|group| group.parse::<Name>())
        .collect::<Result<_, _>>();
    let ttl = match body.expires_in_s {
        Some(0) => return Err(Error::invalid("`expires_in_s` must be at least 1")),
        Some(s) if s > MAX_TTL_S => {
            return Err(Error::invalid(format!(
                "`expires_in_s` may be at most {MAX_TTL_S}"
            )));
        }
        ttl => ttl.map(Duration::from_secs),
    };
    Ok(NewKey {
        name,
        scopes: body.scopes.into_iter().collect(),
        groups: groups.map_err(|e| Error::invalid(format!("`groups`: {e}")))?,
        ttl,
    })
}

fn view(key: &ApiKey, now: Timestamp) -> KeyView {
    let state = match key.state(now) {
        KeyState::Active => "active",
        KeyState::Expired => "expired",
        KeyState::Revoked => "revoked",
    };
    KeyView {
        id: key.id,
        name: key.name.to_string(),
        scopes: key.scopes.iter().collect(),
        groups: key.groups.iter().map(ToString::to_string).collect(),
        state: state.to_owned(),
        host: key.host,
        single_use: key.single_use,
        created_at: key.created_at.into(),
        expires_at: key.expires_at.map(Into::into),
        revoked_at: key.revoked_at.map(Into::into),
        last_used_at: key.last_used_at.map(Into::into),
    }
}
