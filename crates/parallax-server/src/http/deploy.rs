//! `POST /api/agents/deploy`.

use axum::extract::multipart::Field;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, RequestExt};
use parallax_api::deploy as api;
use parallax_core::error::{Code, Error};
use parallax_core::key::Principal;
use parallax_core::manifest::AgentSpec;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::agents::agent_view;
use super::authenticate::Caller;
use super::body::{Body, Query};
use super::gate::Gate;
use super::problem::Failure;
use crate::app::deploy::StoredSource;

/// What gzip data begins with (RFC 1952 §2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

pub(super) fn routes() -> OpenApiRouter<Gate> {
    // A source archive streams to disk under a limit of its own.
    OpenApiRouter::new()
        .routes(routes!(deploy))
        .layer(DefaultBodyLimit::disable())
}

#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct DeployQuery {
    /// Answers what would happen and changes nothing.
    #[serde(default)]
    dry_run: bool,
}

/// Deploys an agent from source: the parts are `spec`, optionally `suspended`, then `source`.
#[utoipa::path(post, path = "/api/agents/deploy", params(DeployQuery),
    request_body(content((api::DeployForm = "multipart/form-data"), (api::DeployRequest = "application/json"))),
    responses((status = 202, body = api::DeployResponse), (status = 200, description = "Dry run", body = api::DryRun)), tag = "agents")]
async fn deploy(
    State(gate): State<Gate>,
    Caller(principal): Caller,
    Query(query): Query<DeployQuery>,
    request: Request,
) -> Result<Response, Failure> {
    let is_form = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.starts_with("multipart/form-data"));
    let form = if is_form {
        let parts = Multipart::from_request(request, &()).await;
        let parts = parts.map_err(|e| Error::invalid(format!("the form: {}", e.body_text())))?;
        read_form(&gate, &principal, parts, query.dry_run).await?
    } else {
        read_json(request.with_limited_body()).await?
    };
    if query.dry_run {
        return Ok(Json(forecast(&gate, &principal, form).await?).into_response());
    }
    let deployed = gate
        .app
        .deploy(&principal, form.spec, form.source, form.suspended)
        .await?;
    let status_url = format!("/api/agents/{}/status", deployed.agent.id);
    let revision = deployed.revision.as_ref();
    let body = api::DeployResponse {
        agent: agent_view(&deployed.agent, revision),
        revision: revision.map(|r| parallax_api::agents::RevisionRef {
            id: r.id,
            number: Some(r.number),
            source_digest: Some(r.source_digest.clone()),
        }),
        status_url: status_url.clone(),
        changed: deployed.changed,
    };
    Ok((
        StatusCode::ACCEPTED,
        [(header::LOCATION, status_url)],
        Json(body),
    )
        .into_response())
}

struct Form {
    spec: AgentSpec,
    suspended: bool,
    source: Option<StoredSource>,
}

async fn read_json(request: Request) -> Result<Form, Failure> {
    let Body(body) = Body::<api::DeployRequest>::from_request(request, &()).await?;
    if body.image.is_some() || body.git.is_some() {
        let message = "deploying from an image or a repository comes with a later release; upload the source as multipart/form-data";
        return Err(Error::new(Code::NotImplemented, message).into());
    }
    Ok(Form {
        spec: body.spec,
        suspended: body.suspended,
        source: None,
    })
}

async fn read_form(
    gate: &Gate,
    principal: &Principal,
    mut parts: Multipart,
    dry_run: bool,
) -> Result<Form, Failure> {
    let (mut spec, mut suspended, mut source) = (None, false, None);
    while let Some(field) = parts.next_field().await.map_err(|e| broken(&e))? {
        match field.name().unwrap_or_default() {
            "spec" => spec = Some(read_spec(field).await?),
            "suspended" => {
                let text = field.text().await.map_err(|e| broken(&e))?;
                suspended = text
                    .trim()
                    .parse()
                    .map_err(|_| Error::invalid("`suspended` must be true or false"))?;
            }
            "source" => {
                let Some(spec) = &spec else {
                    return Err(Error::invalid(
                        "the `spec` part must come before the `source` part",
                    )
                    .into());
                };
                // What cannot be deployed is not uploaded first.
                gate.app.check_deploy(principal, spec).await?;
                source = Some(store_source(gate, principal, field, dry_run).await?);
            }
            other => {
                return Err(Error::invalid(format!(
                    "unknown part `{other}`; the parts are spec, suspended, source"
                ))
                .into());
            }
        }
    }
    let spec = spec.ok_or_else(|| Error::invalid("the `spec` part is missing"))?;
    Ok(Form {
        spec,
        suspended,
        source,
    })
}

async fn read_spec(field: Field<'_>) -> Result<AgentSpec, Failure> {
    let bytes = field.bytes().await.map_err(|e| broken(&e))?;
    if bytes.len() > super::MAX_BODY_BYTES {
        return Err(Error::new(Code::TooLarge, "the `spec` part has more than 1 MiB").into());
    }
    let read = serde_json::from_slice(&bytes);
    Ok(read.map_err(|e| Error::new(Code::InvalidSpec, format!("the `spec` part: {e}")))?)
}

async fn store_source(
    gate: &Gate,
    principal: &Principal,
    mut field: Field<'_>,
    dry_run: bool,
) -> Result<StoredSource, Failure> {
    let app = &gate.app;
    let mut writer = app
        .blobs
        .put(principal.tenant, app.limits.max_source_bytes)
        .await
        .map_err(Error::from)?;
    let mut head = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|e| broken(&e))? {
        if head.len() < GZIP_MAGIC.len() {
            head.extend_from_slice(&chunk[..chunk.len().min(GZIP_MAGIC.len())]);
        }
        writer.write(&chunk).await.map_err(Error::from)?;
    }
    if !head.starts_with(&GZIP_MAGIC) {
        return Err(Error::new(
            Code::InvalidSource,
            "the `source` part is not a tar.gz archive",
        )
        .into());
    }
    let stored = writer.finish(None).await.map_err(Error::from)?;
    if dry_run
        && !app
            .is_source_known(principal.tenant, stored.digest.as_str())
            .await?
    {
        app.blobs
            .delete(principal.tenant, &stored.digest)
            .await
            .map_err(Error::from)?;
    }
    Ok(StoredSource {
        digest: stored.digest.as_str().to_owned(),
        bytes: stored.size_bytes,
    })
}

async fn forecast(gate: &Gate, principal: &Principal, form: Form) -> Result<api::DryRun, Failure> {
    let digest = form.source.as_ref().map(|s| s.digest.clone());
    let forecast = gate
        .app
        .forecast(principal, &form.spec, form.source.as_ref(), form.suspended)
        .await?;
    let action = match (forecast.exists, forecast.unchanged) {
        (false, _) => api::DeployAction::Create,
        (true, true) => api::DeployAction::Nothing,
        (true, false) => api::DeployAction::Update,
    };
    Ok(api::DryRun {
        agent: form.spec.name.to_string(),
        action,
        source_digest: digest,
        revision: forecast.next_revision,
        build: match forecast.prepared {
            Some(true) => api::BuildForecast::Prepared,
            Some(false) => api::BuildForecast::Needed,
            None => api::BuildForecast::Unknown,
        },
        spec: form.spec,
    })
}

fn broken(error: &axum::extract::multipart::MultipartError) -> Error {
    Error::invalid(format!("the form: {}", error.body_text()))
}
