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
use parallax_api::plan::PlanView;
use parallax_builder::Plan;
use parallax_core::blob::BlobDigest;
use parallax_core::deploy::{Change, Wanted};
use parallax_core::error::{Code, Error};
use parallax_core::key::{Principal, Scope};
use parallax_core::manifest::AgentSpec;
use parallax_store::BlobWriter;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::agents::view;
use super::authenticate::Caller;
use super::body::Json;
use super::idempotency::{Idempotency, Kept, Reply};
use super::problem::Failure;
use super::query::{self, Params};
use super::state::HandlerState;
use crate::app::deploy::{Deployed, Deployment};
use crate::app::forecast::BuildForecast as Forecast;
use crate::app::sources::Planned;
use crate::auth::require;
use form::Form;

pub(crate) fn routes() -> OpenApiRouter<HandlerState> {
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
    State(state): State<HandlerState>,
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
        let uploaded = upload(&state, &principal, parts, params.dry_run).await?;
        match uploaded {
            Uploaded::Wanted(wanted) => *wanted,
            Uploaded::Forecast(forecast) => return Ok(axum::Json(forecast).into_response()),
        }
    } else {
        let body: Json<DeployRequest> = Json::from_request(request, &()).await?;
        without_source(body.value)?
    };
    if params.dry_run {
        let draft = Draft {
            spec: wanted.spec,
            suspended: wanted.suspended,
            archive: None,
        };
        let forecast = forecast(&state, &principal, draft).await?;
        return Ok(axum::Json(forecast).into_response());
    }
    let (app, caller) = (Arc::clone(&state.app), principal.clone());
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
    once.run(&state, &principal, &request, kept, work).await
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

/// What became of an upload.
enum Uploaded {
    Wanted(Box<Deployment>),
    Forecast(Box<DryRun>),
}

async fn upload(
    state: &HandlerState,
    principal: &Principal,
    parts: Multipart,
    dry_run: bool,
) -> Result<Uploaded, Failure> {
    let place = state.upload_place()?;
    let mut form = Form::new(parts);
    let received = receive(state, principal, &mut form).await;
    let uploaded = match received {
        Ok(draft) if dry_run => {
            let forecast = forecast(state, principal, draft).await;
            forecast.map(|forecast| Uploaded::Forecast(Box::new(forecast)))
        }
        Ok(draft) => {
            let wanted = draft.keep(state).await;
            wanted.map(|wanted| Uploaded::Wanted(Box::new(wanted)))
        }
        Err(error) => {
            // A client that is still sending would otherwise see a broken connection, not the
            // reason.
            form.drain().await;
            Err(error)
        }
    };
    drop(place);
    Ok(uploaded?)
}

/// A deployment whose archive is not in place yet. Dropping it leaves nothing.
struct Draft {
    spec: AgentSpec,
    suspended: bool,
    archive: Option<BlobWriter>,
}

impl Draft {
    async fn keep(self, state: &HandlerState) -> Result<Deployment, Error> {
        let source = match self.archive {
            Some(archive) => Some(state.app.keep_source(archive).await?),
            None => None,
        };
        Ok(Deployment {
            spec: self.spec,
            source,
            suspended: self.suspended,
        })
    }
}

async fn receive(
    state: &HandlerState,
    principal: &Principal,
    form: &mut Form,
) -> Result<Draft, Error> {
    let spec = form.spec().await?;
    state.app.check_deploy(principal, &spec).await?;
    let mut archive = state.app.begin_source(principal.tenant).await?;
    let (suspended, sent) = form.rest(&mut archive).await?;
    if sent {
        state.app.check_source(&mut archive).await?;
    }
    Ok(Draft {
        spec,
        suspended,
        archive: sent.then_some(archive),
    })
}

async fn forecast(
    state: &HandlerState,
    principal: &Principal,
    draft: Draft,
) -> Result<DryRun, Error> {
    let Draft {
        spec,
        suspended,
        mut archive,
    } = draft;
    let digest = archive.as_ref().map(|archive| archive.written().digest);
    let wanted = Wanted {
        spec: &spec,
        source_digest: digest.as_ref().map(BlobDigest::as_str),
        suspended,
    };
    let forecast = state.app.forecast(principal, &wanted).await?;
    let planned = match &mut archive {
        Some(archive) => state.app.plan_upload(principal, archive, &spec).await?,
        None => Planned::NoSource,
    };
    let (plan, planned_for, note) = match planned {
        Planned::For(host, plan) => (Some(plan_view(&plan)), Some(host.to_string()), None),
        Planned::NoTools(why) => (None, None, Some(why)),
        Planned::NoSource => (None, None, Some("no source was sent".to_owned())),
    };
    Ok(DryRun {
        agent: spec.name.to_string(),
        action: match forecast.change {
            Change::Create => DeployAction::Create,
            Change::Revision | Change::Settings => DeployAction::Update,
            Change::Nothing => DeployAction::Nothing,
        },
        spec,
        source_digest: digest.map(|digest| digest.as_str().to_owned()),
        revision: forecast.revision,
        replicas: forecast.replicas,
        build: match &forecast.build {
            Forecast::Unknown => BuildForecast::Unknown,
            Forecast::Needed => BuildForecast::Needed,
            Forecast::Reported(_) => BuildForecast::Prepared,
        },
        prepared_on: match forecast.build {
            Forecast::Reported(host) => Some(host.to_string()),
            Forecast::Unknown | Forecast::Needed => None,
        },
        unschedulable: forecast.unschedulable.map(|nowhere| nowhere.words),
        plan,
        planned_for,
        plan_note: note,
    })
}

/// The plan as the API shows it: the same JSON.
fn plan_view(plan: &Plan) -> PlanView {
    let json = serde_json::to_value(plan).expect("a plan has only string keys");
    serde_json::from_value(json).expect("the view has the fields of a plan")
}

#[cfg(test)]
mod tests;
