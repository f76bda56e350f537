//! `POST /api/agents/deploy`: a spec and a source, checked in this order.
#![expect(
    unused_qualifications,
    reason = "utoipa's derive qualifies what it need not"
)]

mod form;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use parallax_api::deploy::{
    BuildForecast, DeployAction, DeployForm, DeployRequest, DeployResponse, DryRun,
};
use parallax_core::error::{Code, Error};
use parallax_core::key::{Principal, Scope};
use parallax_core::manifest::AgentSpec;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::agents::view;
use super::authenticate::Caller;
use super::body::Json;
use super::gate::Gate;
use super::idempotency::{Idempotency, Keep, Reply};
use super::problem::Failure;
use super::query::{self, Params};
use crate::app::deploy::StoredSource;
use crate::app::forecast::Forecast;
use crate::auth::require;
use form::{Destination, Form};

pub(crate) fn routes() -> OpenApiRouter<Gate> {
    // The source has a limit of its own, counted while it streams to disk.
    OpenApiRouter::new()
        .routes(routes!(deploy_agent))
        .layer(DefaultBodyLimit::disable())
}

#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DeployQuery {
    /// Says what would happen and changes nothing.
    #[serde(default, deserialize_with = "query::flag")]
    dry_run: bool,
}

/// Makes an agent, or its next revision.
///
/// The multipart form has the parts `spec`, optionally `suspended`, and `source` (tar.gz), in this
/// order: the spec is checked before the upload is read. The same spec and source again change
/// nothing. The answer comes once the source is stored; building and starting follow, as
/// `status_url` tells.
#[utoipa::path(post, path = "/api/agents/deploy", tag = "agents", params(DeployQuery),
    request_body(content((DeployForm = "multipart/form-data"),
        (DeployRequest = "application/json"))),
    responses((status = 202, body = DeployResponse, description = "Taken on; `Location` names the status"),
        (status = 200, body = DryRun, description = "With `dry_run`: what would happen")))]
async fn deploy_agent(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Params(params): Params<DeployQuery>,
    once: Idempotency,
    request: Request,
) -> Result<Response, Failure> {
    require(&principal, Scope::Deploy)?;
    let content = request.headers().get(header::CONTENT_TYPE);
    let multipart = content.is_some_and(|v| v.as_bytes().starts_with(b"multipart/form-data"));
    let wanted = if multipart {
        let parts = Multipart::from_request(request, &()).await;
        let parts = parts.map_err(|e| Error::invalid(e.body_text()))?;
        upload(&gate, &principal, parts, params.dry_run).await?
    } else {
        let body: Json<DeployRequest> = Json::from_request(request, &()).await?;
        without_source(body.value)?
    };
    if params.dry_run {
        return forecast(&gate, &principal, wanted).await;
    }
    let (app, caller) = (Arc::clone(&gate.app), principal.clone());
    let spec_json = serde_json::to_vec(&wanted.spec).expect("a spec has only string keys");
    let digest = wanted
        .source
        .as_ref()
        .map_or("", |source| &source.digest)
        .to_owned();
    let suspended = [u8::from(wanted.suspended)];
    let work = async move {
        let deployed = app
            .deploy(&caller, wanted.spec, wanted.source, wanted.suspended)
            .await?;
        let agent = view(&deployed.agent, deployed.revision.as_ref());
        let status_url = format!("/api/agents/{}/status", agent.id);
        let revision = agent
            .revision
            .clone()
            .filter(|_| deployed.revision.is_some());
        let response = DeployResponse {
            agent,
            revision,
            status_url,
            changed: deployed.changed,
        };
        Ok(Reply::json(StatusCode::ACCEPTED, &response))
    };
    let request = [
        spec_json.as_slice(),
        digest.as_bytes(),
        suspended.as_slice(),
    ];
    once.run(&gate, &principal, &request, Keep::Answer, work)
        .await
}

/// Everything that a deployment consists of.
struct Wanted {
    spec: AgentSpec,
    suspended: bool,
    source: Option<StoredSource>,
}

fn without_source(body: DeployRequest) -> Result<Wanted, Error> {
    let later = |what: &str| {
        let message = format!(
            "this release does not deploy from {what} yet; upload the source as multipart/form-data"
        );
        Err(Error::new(Code::NotImplemented, message))
    };
    if body.image.is_some() {
        return later("an image");
    }
    if body.git.is_some() {
        return later("a repository");
    }
    Ok(Wanted {
        spec: body.spec,
        suspended: body.suspended,
        source: None,
    })
}

async fn upload(
    gate: &Gate,
    principal: &Principal,
    parts: Multipart,
    dry_run: bool,
) -> Result<Wanted, Failure> {
    let place = gate.upload_place()?;
    let mut form = Form::new(parts);
    let uploaded = receive(gate, principal, &mut form, dry_run).await;
    if uploaded.is_err() {
        // A client that is still sending would otherwise see a broken connection, not the reason.
        form.drain().await;
    }
    drop(place);
    Ok(uploaded?)
}

async fn receive(
    gate: &Gate,
    principal: &Principal,
    form: &mut Form,
    dry_run: bool,
) -> Result<Wanted, Error> {
    let spec = form.spec().await?;
    gate.app.check_deploy(principal, &spec).await?;
    let limit = gate.app.limits.max_source_bytes;
    let destination = match dry_run {
        true => Destination::nowhere(limit),
        false => Destination::store(&gate.app.blobs, principal.tenant, limit).await?,
    };
    let (suspended, source) = form.rest(destination).await?;
    Ok(Wanted {
        spec,
        suspended,
        source,
    })
}

async fn forecast(gate: &Gate, principal: &Principal, wanted: Wanted) -> Result<Response, Failure> {
    let digest = wanted.source.map(|source| source.digest);
    let Forecast {
        exists,
        revision,
        prepared,
    } = gate
        .app
        .forecast(principal, &wanted.spec, digest.as_deref(), wanted.suspended)
        .await?;
    let plan = DryRun {
        agent: wanted.spec.name.to_string(),
        action: match (exists, revision) {
            (false, _) => DeployAction::Create,
            (true, Some(_)) => DeployAction::Update,
            (true, None) => DeployAction::Nothing,
        },
        spec: wanted.spec,
        source_digest: digest,
        revision,
        build: match prepared {
            None => BuildForecast::Unknown,
            Some(true) => BuildForecast::Prepared,
            Some(false) => BuildForecast::Needed,
        },
    };
    Ok(axum::Json(plan).into_response())
}
