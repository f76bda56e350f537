//! The server's HTTP API, as the commands use it.

mod stream;
mod target;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use parallax_api::{Page, Problem};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::exit::{Ended, Exit};
use crate::printable;

pub(crate) use stream::Stream;
pub(crate) use target::{Target, parse as address};

/// A server that is there accepts at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For everything but calls, uploads and streams, which have deadlines of their own.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Streams carry a sign of life every 15 seconds.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(50);
/// Of an answer that is no problem document, as much as helps to recognise it.
const MAX_FOREIGN_CHARS: usize = 200;

/// A client of one server.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    http: Client,
    target: Target,
    key: Key,
    key_file: PathBuf,
}

/// An API key; never shown.
#[derive(Clone)]
struct Key(String);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Api {
    /// A client with the key from `key_file`, or else the administration key in `data_dir`.
    ///
    /// # Errors
    /// When there is no key, or the certificate file is not one.
    pub(crate) fn new(
        target: Target,
        key_file: Option<&Path>,
        data_dir: &Path,
        ca_file: Option<&Path>,
    ) -> Result<Self> {
        let (key, key_file) = target.key(key_file, data_dir)?;
        let http = http_client(&target, ca_file)?;
        Ok(Self {
            http,
            target,
            key: Key(key),
            key_file,
        })
    }

    /// A request for `/api/` and `path`, whose parts are escaped.
    pub(crate) fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        self.http
            .request(method, self.url_of(path))
            .bearer_auth(&self.key.0)
    }

    /// Where the server is.
    pub(crate) fn url(&self) -> &str {
        self.target.url.as_str().trim_end_matches('/')
    }

    fn url_of(&self, path: &[&str]) -> Url {
        let mut url = self.target.url.clone();
        url.path_segments_mut()
            .expect("an http URL has a path")
            .pop_if_empty()
            .push("api")
            .extend(path);
        url
    }

    /// `GET`, as JSON.
    ///
    /// # Errors
    /// What the server answers, or that it cannot be reached.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T> {
        let request = self.request(Method::GET, path).query(query);
        self.json(request.timeout(REQUEST_TIMEOUT)).await
    }

    /// A change with a JSON body.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T> {
        let request = self.request(method, path).json(body);
        self.json(request.timeout(REQUEST_TIMEOUT)).await
    }

    /// Every page of a list, or the first `most` items of it.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) async fn list<T: DeserializeOwned + utoipa::ToSchema>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        most: usize,
    ) -> Result<Vec<T>> {
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let mut query = query.to_vec();
            query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let page: Page<T> = self.get(path, &query).await?;
            items.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() || items.len() >= most {
                items.truncate(most);
                return Ok(items);
            }
        }
    }

    /// Sends, and reads a JSON answer.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        let response = self
            .answer(request.header(ACCEPT, "application/json"))
            .await?;
        let url = response.url().clone();
        let bytes = response
            .bytes()
            .await
            .map_err(|error| self.unreachable(error))?;
        serde_json::from_slice(&bytes).with_context(|| {
            format!("{url} answered what this version does not understand; is the server of another version?")
        })
    }

    /// Sends, and turns a refusal into an error.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) async fn answer(&self, request: RequestBuilder) -> Result<Response> {
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let unknown = response.status() == StatusCode::UNAUTHORIZED;
        let mut ended = refusal(response).await;
        if unknown {
            let (file, url) = (self.key_file.display(), self.url());
            ended.message.push_str(&format!(
                "\nThe key is the one in {file}. Is it a key of {url}? Name another file with --api-key-file."
            ));
        }
        Err(ended.into())
    }

    /// Follows a stream of server-sent events, from just after `last_id` on.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) async fn stream(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        last_id: Option<&str>,
    ) -> Result<Stream> {
        let mut request = self.request(Method::GET, path).query(query);
        if let Some(id) = last_id {
            request = request.header("Last-Event-ID", id);
        }
        self.open(request).await
    }

    /// Sends, and follows the stream that answers.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) async fn open(&self, request: RequestBuilder) -> Result<Stream> {
        let response = self
            .answer(request.header(ACCEPT, "text/event-stream"))
            .await?;
        Ok(Stream::new(response, SILENCE_TIMEOUT))
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        let url = &self.target.url;
        let (exit, message) = if is_untrusted(&error) {
            let message = format!(
                "the certificate of {url} is not signed by an authority that is trusted here; \
                 name the PEM file with the right one with --ca-file or PARALLAX_CA_FILE"
            );
            (Exit::Unavailable, message)
        } else if error.is_connect() {
            let advice = match (self.target.is_loopback(), self.target.is_https()) {
                (_, true) => "is a server running there, with TLS?",
                (true, _) => "is the server running? Start one with `parallax serve`",
                (false, _) => "is a server running there?",
            };
            let message = format!("cannot connect to {url}; {advice}");
            (Exit::Unavailable, message)
        } else if error.is_timeout() {
            (Exit::Deadline, format!("{url} did not answer in time"))
        } else {
            (Exit::Unavailable, format!("the connection to {url} broke"))
        };
        Ended::new(exit, message)
            .caused_by(error.without_url())
            .into()
    }
}

/// rustls says so of a certificate that it does not accept; the error's type is hidden by the
/// layers above it.
fn is_untrusted(error: &reqwest::Error) -> bool {
    let first: &dyn std::error::Error = error;
    let mut causes = std::iter::successors(Some(first), |error| error.source());
    causes.any(|error| error.to_string().contains("invalid peer certificate"))
}

fn http_client(target: &Target, ca_file: Option<&Path>) -> Result<Client> {
    // A provider that is there already, in a process that also serves, is the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("parallax-cli/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT);
    if let Some(path) = ca_file {
        let pem = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let certificates = Certificate::from_pem_bundle(&pem)
            .with_context(|| format!("{} holds no PEM certificates", path.display()))?;
        builder = builder.tls_certs_only(certificates);
    } else if !target.is_https() {
        // Reading the system's certificates takes longer than most requests do.
        builder = builder.tls_certs_only([]);
    }
    if target.is_loopback() {
        builder = builder.no_proxy();
    }
    builder.build().context("preparing the HTTP client")
}

/// What the server says of a request that failed.
async fn refusal(response: Response) -> Ended {
    let (status, url) = (response.status(), response.url().clone());
    let kind = response.headers().get(CONTENT_TYPE).cloned();
    let is_problem = kind.is_some_and(|kind| {
        kind.to_str()
            .is_ok_and(|kind| kind.starts_with(parallax_api::problem::MEDIA_TYPE))
    });
    // A body that breaks off says less, and the status still counts.
    let body = response.bytes().await.unwrap_or_default();
    match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) if is_problem => of_problem(&problem),
        _ => {
            let text = String::from_utf8_lossy(&body);
            let text: String = text.trim().chars().take(MAX_FOREIGN_CHARS).collect();
            let text = printable::line(&text);
            Ended::new(
                of_status(status),
                format!("{url} answered {status}, and not as a Parallax server does: {text}"),
            )
        }
    }
}

/// A problem document as an error of this program's.
pub(crate) fn of_problem(problem: &Problem) -> Ended {
    let exit = match problem.known_code() {
        Some(code) => code.into(),
        None => StatusCode::from_u16(problem.status).map_or(Exit::Failed, of_status),
    };
    let agent = problem.agent_code.as_ref();
    let agent = agent.filter(|word| **word != problem.code); // Said once is enough.
    let agent = agent.map_or_else(String::new, |word| {
        format!(", the agent says `{}`", printable::line(word))
    });
    let task = problem.task_id.as_ref();
    let task = task.map_or_else(String::new, |id| format!(", task {id}"));
    Ended::new(
        exit,
        format!(
            "{} [{}{agent}{task}, request {}]",
            printable::block(&problem.detail),
            printable::line(&problem.code),
            printable::line(&problem.request_id)
        ),
    )
}

fn of_status(status: StatusCode) -> Exit {
    match status {
        StatusCode::NOT_FOUND => Exit::NotFound,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Denied,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => Exit::Unavailable,
        StatusCode::GATEWAY_TIMEOUT => Exit::Deadline,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_keeps_its_code_and_its_request() {
        let problem = Problem {
            kind: "urn:parallax:error:agent_failed".to_owned(),
            title: "Agent failed".to_owned(),
            status: 502,
            code: "agent_failed".to_owned(),
            detail: "the text is empty".to_owned(),
            request_id: "req_1".to_owned(),
            task_id: None,
            agent_code: Some("empty".to_owned()),
            retryable: false,
        };
        let ended = of_problem(&problem);
        assert_eq!(ended.exit, Exit::AgentFailed);
        assert_eq!(
            ended.message,
            "the text is empty [agent_failed, the agent says `empty`, request req_1]"
        );
    }
}
