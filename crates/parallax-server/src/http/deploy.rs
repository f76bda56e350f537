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
use parallax_core::deploy::{Change, Wanted};
use parallax_core::error::{Code, Error};
use parallax_core::key::{Principal, Scope};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::agents::view;
use super::authenticate::Caller;
use super::body::Json;
use super::gate::Gate;
use super::idempotency::{Idempotency, Kept, Reply};
use super::problem::Failure;
use super::query::{self, Params};
use crate::app::deploy::{Deployed, Deployment};
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
    let source = wanted.source.as_ref();
    let digest = source.map_or("", |source| &source.digest).to_owned();
    let suspended = [u8::from(wanted.suspended)];
    let work = async move |receipt| Ok(accepted(&app.deploy(&caller, wanted, receipt).await?));
    let request = [
        spec_json.as_slice(),
        digest.as_bytes(),
        suspended.as_slice(),
    ];
    let kept = Kept::Answer(accepted);
    once.run(&gate, &principal, &request, kept, work).await
}

fn accepted(deployed: &Deployed) -> Reply {
    let agent = view(&deployed.summary);
    let response = DeployResponse {
        status_url: format!("/api/agents/{}/status", agent.id),
        revision: agent.revision.clone(),
        agent,
        changed: deployed.changed,
    };
    Reply::json(StatusCode::ACCEPTED, &response)
}

fn without_source(body: DeployRequest) -> Result<Deployment, Error> {
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
    Ok(Deployment {
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
) -> Result<Deployment, Failure> {
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
) -> Result<Deployment, Error> {
    let spec = form.spec().await?;
    gate.app.check_deploy(principal, &spec).await?;
    let limit = gate.app.limits.max_source_bytes;
    let destination = match dry_run {
        true => Destination::nowhere(limit),
        false => Destination::store(&gate.app.blobs, principal.tenant, limit).await?,
    };
    let (suspended, source) = form.rest(destination).await?;
    Ok(Deployment {
        spec,
        suspended,
        source,
    })
}

async fn forecast(
    gate: &Gate,
    principal: &Principal,
    deployment: Deployment,
) -> Result<Response, Failure> {
    let digest = deployment.source.map(|source| source.digest);
    let wanted = Wanted {
        spec: &deployment.spec,
        source_digest: digest.as_deref(),
        suspended: deployment.suspended,
    };
    let forecast = gate.app.forecast(principal, &wanted).await?;
    let answer = DryRun {
        agent: deployment.spec.name.to_string(),
        action: match forecast.change {
            Change::Create => DeployAction::Create,
            Change::Revision | Change::Settings => DeployAction::Update,
            Change::Nothing => DeployAction::Nothing,
        },
        spec: deployment.spec,
        source_digest: digest,
        revision: forecast.revision,
        replicas: forecast.replicas,
        build: match forecast.prepared {
            None => BuildForecast::Unknown,
            Some(true) => BuildForecast::Prepared,
            Some(false) => BuildForecast::Needed,
        },
    };
    Ok(axum::Json(answer).into_response())
}
