//! A server with two tenants, and a client for it.

use std::sync::{Arc, Once};
use std::time::Duration;

use futures::StreamExt;
use parallax_core::id::{KeyId, ReplicaId, TenantId};
use parallax_core::key::{ApiKey, Principal, Scope};
use parallax_core::name::Name;
use parallax_server::app::App;
use parallax_server::auth::token::{ReplicaClaims, mint_key};
use parallax_server::{Config, Server};
use parallax_store::{keys, tenants};
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// Long enough for a busy machine; nothing waits for all of it when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running server on a folder of its own.
pub(crate) struct World {
    pub(crate) server: Server,
    /// The first tenant's administrator.
    pub(crate) ours: Client,
    _folder: tempfile::TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        install_crypto();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = Config::new(folder.path().join("data"));
        change(&mut config);
        let server = Server::start(config).await.expect("the server starts");
        let key = server
            .new_admin_key
            .as_ref()
            .expect("it is the first start");
        let ours = Client::new(&server.url, key.reveal());
        Self {
            server,
            ours,
            _folder: folder,
        }
    }

    pub(crate) fn app(&self) -> &Arc<App> {
        &self.server.app
    }

    /// The first tenant's administrator, for use cases that have no route.
    pub(crate) async fn admin(&self) -> Principal {
        let key = self.ours.key.as_deref().expect("it has one");
        let principal = self.app().auth.authenticate(key).await;
        principal.expect("the key is good")
    }

    /// A client of a new key of the first tenant.
    pub(crate) async fn with_scopes(&self, name: &str, scopes: &[Scope]) -> Client {
        self.key(self.server.tenant, name, scopes).await.1
    }

    /// Another tenant's administrator.
    pub(crate) async fn theirs(&self) -> Client {
        let app = self.app();
        let now = app.clock.now();
        let id = TenantId::new(now, parallax_server::clock::random());
        let tenant = tenants::Tenant {
            id,
            name: named("other"),
            created_at: now,
        };
        let inserted = app.store.system_write(tenant, |tx, tenant| {
            Box::pin(async move { tenants::insert(tx, tenant).await })
        });
        inserted.await.expect("the name is free");
        self.key(id, "admin", &[Scope::Admin]).await.1
    }

    /// Makes any key, also such as the API would not make.
    pub(crate) async fn key(
        &self,
        tenant: TenantId,
        name: &str,
        scopes: &[Scope],
    ) -> (KeyId, Client) {
        let app = self.app();
        let now = app.clock.now();
        let id = KeyId::new(now, parallax_server::clock::random());
        let secret = mint_key(id, parallax_server::clock::random());
        let key = ApiKey {
            tenant,
            id,
            name: named(name),
            hash: app.auth.hash_key(&secret),
            scopes: scopes.iter().copied().collect(),
            groups: Vec::new(),
            host: None,
            single_use: false,
            created_at: now,
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
        };
        let inserted = app.store.write(tenant, key, |tx, key| {
            Box::pin(async move { keys::insert(tx, key).await })
        });
        inserted.await.expect("the key is new");
        (id, Client::new(&self.server.url, secret.reveal()))
    }

    /// The credential of a replica of the agent.
    pub(crate) fn replica(&self, name: &str, agent: &str) -> Client {
        let now = self.app().clock.now();
        let claims = ReplicaClaims {
            tenant: self.server.tenant,
            agent: agent.parse().expect("an agent's id"),
            agent_name: named(name),
            replica: ReplicaId::new(now, parallax_server::clock::random()),
            expires_at: now.plus(PATIENCE),
        };
        Client::new(
            &self.server.url,
            self.app().auth.mint_replica(&claims).reveal(),
        )
    }

    /// Registers an agent without a source; it has nothing to run.
    pub(crate) async fn register(&self, name: &str) -> String {
        let body = serde_json::json!({ "spec": { "name": name }, "suspended": true });
        let answer = self.ours.post("/api/agents/deploy", &body).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
        answer.json()["agent"]["id"]
            .as_str()
            .expect("agents have ids")
            .to_owned()
    }
}

fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let installed = rustls::crypto::ring::default_provider().install_default();
        installed.expect("nobody else installs one in this program");
    });
}

pub(crate) fn named(text: &str) -> Name {
    text.parse().expect("a DNS label")
}

/// A caller with a key, or with none.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) url: String,
    pub(crate) key: Option<String>,
    http: reqwest::Client,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    }

    /// The stable code of a problem, which must be well-formed.
    pub(crate) fn code(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{}",
            self.text
        );
        let problem: parallax_api::Problem =
            serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text));
        assert_eq!(problem.status, self.status.as_u16());
        assert_eq!(problem.request_id, self.header("x-request-id"));
        assert!(
            !problem.request_id.is_empty() && !problem.detail.is_empty(),
            "{}",
            self.text
        );
        problem.code
    }
}

impl Client {
    fn new(url: &str, key: &str) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        Self {
            url: url.to_owned(),
            key: Some(key.to_owned()),
            http,
        }
    }

    pub(crate) fn anonymous(&self) -> Self {
        Self {
            key: None,
            ..self.clone()
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self
            .http
            .request(method, format!("{}{path}", self.url))
            .timeout(PATIENCE);
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        read(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        read(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        read(self.request(Method::DELETE, path)).await
    }

    /// Opens a stream.
    pub(crate) async fn stream(&self, path: &str, accept: &str) -> Lines {
        let sent = self
            .request(Method::GET, path)
            .header("accept", accept)
            .send()
            .await;
        lines(sent.expect("the server answers"))
    }

    /// Opens a stream again after the cursor `last`.
    pub(crate) async fn stream_after(&self, path: &str, accept: &str, last: &str) -> Lines {
        let request = self.request(Method::GET, path);
        let request = request.header("accept", accept);
        let sent = request.header("last-event-id", last).send().await;
        lines(sent.expect("the server answers"))
    }
}

pub(crate) async fn read(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.expect("the server answers");
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.expect("the body is whole");
    Answer {
        status,
        headers,
        text,
    }
}

/// The lines of a stream, as they come.
pub(crate) struct Lines {
    body: futures::stream::BoxStream<'static, Vec<u8>>,
    rest: String,
}

pub(crate) fn lines(response: reqwest::Response) -> Lines {
    assert_eq!(response.status(), StatusCode::OK);
    let body = response
        .bytes_stream()
        .map(|chunk| chunk.expect("the stream is whole").to_vec());
    Lines {
        body: body.boxed(),
        rest: String::new(),
    }
}

impl Lines {
    /// The next line that is not empty; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((line, rest)) = self.rest.split_once('\n') {
                let (line, rest) = (line.to_owned(), rest.to_owned());
                self.rest = rest;
                if line.is_empty() {
                    continue;
                }
                return Some(line);
            }
            let waited = tokio::time::timeout(PATIENCE, self.body.next()).await;
            let chunk = waited.expect("the stream goes on or ends")?;
            self.rest
                .push_str(&String::from_utf8(chunk).expect("streams are UTF-8"));
        }
    }

    /// Reads on until a line contains `text`.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        loop {
            let line = self
                .next()
                .await
                .unwrap_or_else(|| panic!("the stream ended before {text}"));
            if line.contains(text) {
                return line;
            }
        }
    }
}

/// A tar.gz with one Python file.
pub(crate) fn archive(content: &str) -> Vec<u8> {
    archive_of("agent.py", content)
}

/// A tar.gz with one file.
pub(crate) fn archive_of(path: &str, content: &str) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    let added = tar.append_data(&mut header, path, content.as_bytes());
    added.expect("a vector takes any bytes");
    let gzip = tar.into_inner().expect("a vector takes any bytes");
    gzip.finish().expect("a vector takes any bytes")
}

/// The form of a deployment; without replicas, since no host is there to run them.
pub(crate) fn form(name: &str, source: Vec<u8>) -> reqwest::multipart::Form {
    let spec = serde_json::json!({ "name": name, "replicas": 0 }).to_string();
    reqwest::multipart::Form::new().text("spec", spec).part(
        "source",
        reqwest::multipart::Part::bytes(source).file_name("source.tar.gz"),
    )
}
