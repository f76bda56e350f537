//! `/api/keys`.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use parallax_api::Page;
use parallax_api::keys as api;
use parallax_core::error::Error;
use parallax_core::key::{ApiKey, KeyState};
use parallax_core::time::Timestamp;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::authenticate::Caller;
use super::body::{Body, Query};
use super::gate::Gate;
use super::problem::Failure;
use super::query::{Paging, page};
use crate::app::keys::NewKey;

pub(super) fn routes() -> OpenApiRouter<Gate> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(revoke))
}

/// The tenant's keys, revoked ones too; never their secrets.
#[utoipa::path(get, path = "/api/keys", params(Paging), responses((status = 200, body = Page<api::KeyView>)), tag = "keys")]
async fn list(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<api::KeyView>>, Failure> {
    let listed = gate.app.list_keys(&principal, &paging.page()?).await?;
    let now = gate.app.clock.now();
    Ok(Json(page(
        listed,
        |key| key.id.to_string(),
        |key| view(&key, now),
    )))
}

/// Makes a key. Its secret is in the answer and nowhere else.
#[utoipa::path(post, path = "/api/keys", request_body = api::CreateKey, responses((status = 201, body = api::CreatedKey)), tag = "keys")]
async fn create(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Body(body): Body<api::CreateKey>,
) -> Result<(StatusCode, Json<api::CreatedKey>), Failure> {
    let groups = body
        .groups
        .iter()
        .map(|g| g.parse())
        .collect::<Result<_, _>>();
    let wanted = NewKey {
        name: body
            .name
            .parse()
            .map_err(|e| Error::invalid(format!("`name`: {e}")))?,
        scopes: body.scopes.into_iter().collect(),
        groups: groups.map_err(|e| Error::invalid(format!("`groups`: {e}")))?,
        ttl: body.expires_in_s.map(Duration::from_secs),
    };
    let (key, secret) = gate.app.create_key(&principal, wanted).await?;
    let key = view(&key, gate.app.clock.now());
    Ok((
        StatusCode::CREATED,
        Json(api::CreatedKey {
            key,
            secret: secret.reveal().to_owned(),
        }),
    ))
}

/// Revokes a key; what it has open ends within seconds.
#[utoipa::path(delete, path = "/api/keys/{id}", params(("id" = String, Path,)), responses((status = 204)), tag = "keys")]
async fn revoke(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    let id = id.parse().map_err(|e| Error::invalid(format!("{e}")))?;
    gate.app.revoke_key(&principal, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(key: &ApiKey, now: Timestamp) -> api::KeyView {
    let state = match key.state(now) {
        KeyState::Active => "active",
        KeyState::Expired => "expired",
        KeyState::Revoked => "revoked",
    };
    api::KeyView {
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
