//! The HTTP API with a world's admin key, or with another.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use parallax_api::agents::{AgentView, ScaleRequest, StatusView};
use parallax_api::deploy::DeployResponse;
use parallax_api::events::EventEntry;
use parallax_api::hosts::{HostView, JoinToken};
use parallax_api::keys::{CreateKey, CreatedKey};
use parallax_api::registry::RegistryEntry;
use parallax_api::tasks::TaskView;
use parallax_api::{Page, Problem};
use parallax_core::status::{Phase, Reason, Verdict};
use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Fixture, World, held};

/// No request of a test takes longer, but for calls that name a deadline of their own.
pub(super) const REQUEST_PATIENCE: Duration = Duration::from_secs(60);
/// A stream of events that says nothing for so long has said what there was.
const SILENCE: Duration = Duration::from_millis(500);

/// What a request was refused with.
#[derive(Debug, thiserror::Error)]
#[error("{method} {path} was refused: {problem:#?}")]
pub struct Refusal {
    pub method: Method,
    pub path: String,
    pub problem: Box<Problem>,
}

#[derive(Clone)]
pub(super) struct Api {
    http: reqwest::Client,
    url: String,
    key: String,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Default for Api {
    /// A client that knows no server yet.
    fn default() -> Self {
        // A provider that is there already is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            http: reqwest::Client::default(),
            url: String::new(),
            key: String::new(),
        }
    }
}

impl Api {
    /// Talks to a server that has just started. Connections to an older one are of no use.
    pub(super) fn point_at(
        &mut self,
        url: &str,
        data_dir: &Path,
        ca_file: Option<&Path>,
    ) -> Result<()> {
        let file = data_dir.join("admin.key");
        let key = std::fs::read_to_string(&file)
            .with_context(|| format!("reading {}", file.display()))?;
        key.trim().clone_into(&mut self.key);
        url.clone_into(&mut self.url);
        let trusted = match ca_file {
            Some(file) => reqwest::Certificate::from_pem_bundle(&std::fs::read(file)?)
                .context("reading the world's authority")?,
            None => Vec::new(),
        };
        self.http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only(trusted)
            .build()
            .context("making the HTTP client")?;
        Ok(())
    }

    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request_as(&self.key, method, path)
    }

    fn request_as(&self, key: &str, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}/api/{path}", self.url))
            .bearer_auth(key)
            .timeout(REQUEST_PATIENCE)
    }
}

/// The answer as JSON, or the refusal.
pub(super) async fn read<T: DeserializeOwned>(
    method: &Method,
    path: &str,
    response: Response,
) -> Result<T> {
    let status = response.status();
    let body = response.bytes().await.context("reading the answer")?;
    if status.is_success() {
        // Nothing is an answer, too: `null`.
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        return serde_json::from_slice(body)
            .with_context(|| format!("{method} {path}: {}", String::from_utf8_lossy(body)));
    }
    match serde_json::from_slice(&body) {
        Ok(problem) => Err(Refusal {
            method: method.clone(),
            path: path.to_owned(),
            problem: Box::new(problem),
        }
        .into()),
        Err(_) => bail!(
            "{method} {path}: {status} without a problem document: {}",
            String::from_utf8_lossy(&body)
        ),
    }
}

impl World {
    /// The admin key.
    #[must_use]
    pub fn admin_key(&self) -> String {
        held(&self.api).key.clone()
    }

    /// A request for `/api/` and `path` with the admin key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        held(&self.api).request(method, path)
    }

    /// A request with another credential.
    pub fn request_as(&self, key: &str, method: Method, path: &str) -> RequestBuilder {
        held(&self.api).request_as(key, method, path)
    }

    /// `GET`.
    ///
    /// # Errors
    /// A [`Refusal`], or that the server cannot be reached.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let response = self.request(Method::GET, path).send().await?;
        read(&Method::GET, path, response).await
    }

    /// A change with a JSON body.
    ///
    /// # Errors
    /// As [`World::get`].
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        let request = self.request(method.clone(), path).json(body);
        read(&method, path, request.send().await?).await
    }

    /// Deploys a fixture.
    ///
    /// # Errors
    /// As [`World::get`].
    pub async fn deploy(&self, fixture: &Fixture) -> Result<DeployResponse> {
        self.deploy_as(&self.admin_key(), fixture).await
    }

    /// Deploys with another credential.
    ///
    /// # Errors
    /// As [`World::get`].
    pub async fn deploy_as(&self, key: &str, fixture: &Fixture) -> Result<DeployResponse> {
        let path = "agents/deploy";
        let spec =
            Part::text(serde_json::to_string(&fixture.spec)?).mime_str("application/json")?;
        let source = Part::bytes(fixture.archive()?)
            .file_name("source.tar.gz")
            .mime_str("application/gzip")?;
        let form = Form::new().part("spec", spec).part("source", source);
        let request = self.request_as(key, Method::POST, path).multipart(form);
        read(&Method::POST, path, request.send().await?).await
    }

    /// Deploys and waits until it is ready.
    ///
    /// # Errors
    /// As [`World::deploy`] and [`World::until_ready`].
    pub async fn deploy_ready(&self, fixture: &Fixture) -> Result<StatusView> {
        self.deploy(fixture).await?;
        self.until_ready(fixture.name()).await
    }

    /// An agent's status.
    ///
    /// # Errors
    /// As [`World::get`].
    pub async fn status(&self, agent: &str) -> Result<StatusView> {
        self.get(&format!("agents/{agent}/status")).await
    }

    /// Waits until an agent is what it should be: ready, in the number and the revision that are
    /// wanted, and with nothing left over of others.
    ///
    /// # Errors
    /// When that does not happen.
    pub async fn until_ready(&self, agent: &str) -> Result<StatusView> {
        self.until_status(&format!("{agent} is ready"), agent, is_settled)
            .await
    }

    /// Waits for a status.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn until_status(
        &self,
        what: &str,
        agent: &str,
        wanted: impl Fn(&StatusView) -> bool,
    ) -> Result<StatusView> {
        self.until(what, async || {
            let status = self.status(agent).await?;
            Ok(wanted(&status).then_some(status))
        })
        .await
    }

    /// Waits until an agent has failed, and for this reason.
    ///
    /// # Errors
    /// When that does not happen.
    pub async fn until_reason(&self, agent: &str, reason: Reason) -> Result<StatusView> {
        self.until_status(&format!("{agent} says {reason}"), agent, |status| {
            status.status.reason == Some(reason)
        })
        .await
    }

    /// Scales, without waiting.
    ///
    /// # Errors
    /// As [`World::get`].
    pub async fn scale(&self, agent: &str, replicas: u32) -> Result<AgentView> {
        let body = ScaleRequest {
            replicas: Some(replicas),
            ..ScaleRequest::default()
        };
        self.send(Method::PUT, &format!("agents/{agent}/scale"), &body)
            .await
    }

    /// Deletes an agent and waits until it is gone.
    ///
    /// # Errors
    /// As [`World::get`], or when it stays.
    pub async fn delete(&self, agent: &str) -> Result<()> {
        let path = format!("agents/{agent}");
        let response = self.request(Method::DELETE, &path).send().await?;
        read::<serde_json::Value>(&Method::DELETE, &path, response).await?;
        self.until(&format!("{agent} is gone"), async || {
            match self.get::<AgentView>(&path).await {
                Err(error) if is(&error, "not_found") => Ok(Some(())),
                Err(error) => Err(error),
                Ok(_) => Ok(None),
            }
        })
        .await
    }

    /// A durable task.
    ///
    /// # Errors
    /// As [`World::get`].
    pub async fn task(&self, id: &str) -> Result<TaskView> {
        self.get(&format!("tasks/{id}")).await
    }

    /// Everyone who is connected.
    ///
    /// # Errors
    /// As [`World::get`].
    pub async fn registry(&self) -> Result<Vec<RegistryEntry>> {
        Ok(self.get::<Page<RegistryEntry>>("registry").await?.items)
    }

    /// Every host.
    ///
    /// # Errors
    /// As [`World::get`].
    pub async fn hosts(&self) -> Result<Vec<HostView>> {
        Ok(self.get::<Page<HostView>>("hosts").await?.items)
    }

    /// A token with which a host joins once.
    ///
    /// # Errors
    /// As [`World::get`].
    pub async fn join_token(&self) -> Result<String> {
        let token: JoinToken = self
            .send(Method::POST, "hosts/token", &serde_json::json!({}))
            .await?;
        Ok(token.token)
    }

    /// Makes a key with these scopes.
    ///
    /// # Errors
    /// As [`World::get`].
    pub async fn create_key(&self, key: &CreateKey) -> Result<CreatedKey> {
        self.send(Method::POST, "keys", key).await
    }

    /// What has happened to an agent until now.
    ///
    /// # Errors
    /// As [`World::get`].
    pub async fn events_so_far(&self, agent: &str) -> Result<Vec<EventEntry>> {
        let request = self.request(Method::GET, &format!("agents/{agent}/events"));
        let mut response = request
            .header("accept", "application/x-ndjson")
            .send()
            .await?
            .error_for_status()?;
        let mut text = Vec::new();
        while let Ok(chunk) = tokio::time::timeout(SILENCE, response.chunk()).await {
            let Some(chunk) = chunk? else { break };
            text.extend_from_slice(&chunk);
        }
        lines(&text)
    }
}

/// Newline-delimited JSON; empty lines are signs of life.
pub(super) fn lines<T: DeserializeOwned>(text: &[u8]) -> Result<Vec<T>> {
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
        .map(|line| {
            serde_json::from_slice(line).with_context(|| String::from_utf8_lossy(line).into_owned())
        })
        .collect()
}

/// Whether an error is a refusal with this code.
pub(super) fn is(error: &anyhow::Error, code: &str) -> bool {
    let refusal = error.downcast_ref::<Refusal>();
    refusal.is_some_and(|refusal| refusal.problem.code == code)
}

/// Wanted is observed: the phase without a reservation, every count, and no replica that is on its
/// way up or down.
fn is_settled(view: &StatusView) -> bool {
    let counts = view.status.replicas;
    let mut present = view
        .replica_details
        .iter()
        .filter(|replica| !replica.phase.is_over());
    view.status.phase == Phase::Ready
        && view.verdict(view.generation) == Verdict::Done
        && (counts.ready, counts.updated) == (counts.desired, counts.desired)
        && present.clone().count() == counts.desired as usize
        && present.all(|replica| replica.ready && replica.host_connected)
}
