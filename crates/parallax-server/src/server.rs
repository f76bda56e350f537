//! Wiring: from a configuration to a running server and back.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parallax_core::error::{Code, Error};
use parallax_core::id::{KeyId, TenantId};
use parallax_core::key::{Principal, PrincipalKind, Scope};
use parallax_proto::v1;
use parallax_store::{BlobError, BlobStore, Store, StoreError};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use crate::app::{App, Limits, Parts, Receipt};
use crate::auth::bootstrap::{self, BootstrapError, Identity};
use crate::auth::token::Secret;
use crate::clock::Clock;
use crate::grpc::{
    AgentGateway, BlobGateway, HostGateway, MAX_FRAME_BYTES, RegistryGateway, TaskGateway,
};
use crate::jobs;
use crate::listener::{Bound, ListenError, Plaintext, Tls};
use crate::ports::Ports;

/// Room beside the largest inline value for the rest of a frame.
const FRAME_LIMIT: usize = MAX_FRAME_BYTES + 64 * 1024;

/// What to serve, and where.
#[derive(Debug, Clone)]
pub struct Config {
    /// Everything that the server keeps; made 0700.
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    /// `None`: SQLite in the data directory.
    pub database: Option<String>,
    pub tls: Option<Tls>,
    pub plaintext: Plaintext,
    pub limits: Limits,
    pub clock: Clock,
}

impl Config {
    /// The embedded default: SQLite, the loopback address, a free port.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            database: None,
            tls: None,
            plaintext: Plaintext::default(),
            limits: Limits::default(),
            clock: Clock::default(),
        }
    }
}

/// Why a server did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot use {} as the data directory", path.display())]
    DataDir {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot open the blob store")]
    Blobs(#[from] BlobError),
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[error("cannot restore the tasks that were under way")]
    Restore(#[source] Error),
}

/// A running server.
pub struct Server {
    pub app: Arc<App>,
    /// Where clients reach it.
    pub url: String,
    /// Where the local host and its agents reach it: always the loopback address.
    pub local_url: String,
    pub tenant: TenantId,
    /// Set at the first start only; to be shown once.
    pub new_admin_key: Option<Secret>,
    handles: Vec<axum_server::Handle<SocketAddr>>,
    serving: TaskTracker,
    failed: mpsc::UnboundedReceiver<ListenError>,
}

impl Server {
    /// Starts serving. When this returns, the server answers.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        prepare(&config.data_dir).map_err(|source| StartError::DataDir {
            path: config.data_dir.clone(),
            source,
        })?;
        let (public, local) = bind(&config)?;
        let database = config.database.clone();
        let database = database
            .unwrap_or_else(|| format!("sqlite:{}", config.data_dir.join("parallax.db").display()));
        let store = Store::open(&parallax_store::Config::new(database)).await?;
        // Not before: a second server of the folder ends here, and the first keeps its ports.
        let ports = Ports {
            public: Some(public.address.port()),
            local: local.as_ref().map(|local| local.address.port()),
        };
        ports.remember(&config.data_dir);
        let identity = bootstrap::run(&store, &config.data_dir, &config.clock).await?;
        let blobs = BlobStore::open(config.data_dir.join("blobs")).await?;
        let local_url = local.as_ref().unwrap_or(&public).url();
        let url = public.url();
        let Identity {
            pepper,
            tenant,
            new_admin_key,
        } = identity;
        let (app, durable_events) = App::assemble(Parts {
            store,
            blobs,
            pepper,
            clock: config.clock,
            limits: config.limits,
            data_dir: config.data_dir,
        });
        app.restore_leased().await.map_err(StartError::Restore)?;
        jobs::start(&app, durable_events);
        let (failures, failed) = mpsc::unbounded_channel();
        let mut server = Self {
            app,
            url,
            local_url,
            tenant,
            new_admin_key,
            handles: Vec::new(),
            serving: TaskTracker::new(),
            failed,
        };
        let router = router(&server.app).await;
        for bound in std::iter::once(public).chain(local) {
            server.listen(bound, router.clone(), failures.clone()).await;
        }
        Ok(server)
    }

    async fn listen(
        &mut self,
        bound: Bound,
        router: axum::Router,
        failures: mpsc::UnboundedSender<ListenError>,
    ) {
        let handle = bound.handle.clone();
        self.handles.push(handle.clone());
        self.serving.spawn(async move {
            if let Err(error) = bound.serve(router).await {
                // Whoever waits for the server learns of it; if nobody does, it is stopping anyway.
                drop(failures.send(error));
            }
        });
        handle.listening().await;
    }

    /// Makes a token with which the host on this machine joins.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn local_join_token(&self) -> Result<Secret, Error> {
        self.app
            .mint_join_token(&self.operator(), Receipt::none())
            .await
    }

    /// Whether a credential that this machine's host has kept still lets it in.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn lets_in(&self, credential: &str) -> Result<bool, Error> {
        match self.app.auth.authenticate(credential).await {
            Ok(_) => Ok(true),
            Err(error) => match error.code {
                Code::Unauthenticated | Code::CredentialExpired => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// The server's own hand: what it does for whoever started it.
    fn operator(&self) -> Principal {
        Principal {
            tenant: self.tenant,
            kind: PrincipalKind::Key(KeyId::new(self.app.clock.now(), [0; 10])),
            name: "server".to_owned(),
            scopes: [Scope::Admin].into_iter().collect(),
            groups: Vec::new(),
            expires_at: None,
        }
    }

    /// Returns when the server can no longer do its work: its listener failed, or its lock on the
    /// database was lost.
    pub async fn failed(&mut self) -> String {
        tokio::select! {
            Some(error) = self.failed.recv() => error.to_string(),
            () = self.app.store.lost() => "the lock on the database was lost; another server may have it".to_owned(),
        }
    }

    /// Says goodbye to everyone, waits up to `deadline` for what is in hand, and closes the store.
    pub async fn shutdown(self, deadline: Duration) {
        self.app.shutdown.cancel();
        for handle in &self.handles {
            handle.graceful_shutdown(Some(deadline));
        }
        self.serving.close();
        self.app.tasks.close();
        let ended = async {
            self.app.tasks.wait().await;
            self.serving.wait().await;
        };
        if tokio::time::timeout(deadline, ended).await.is_err() {
            tracing::warn!(
                left = self.app.tasks.len(),
                "stopped with work still in hand"
            );
        }
        self.app.store.close().await;
    }
}

/// The listener for everybody and, where that one asks for a certificate or is not on this
/// machine's own address, another that only this machine's agents can reach.
fn bind(config: &Config) -> Result<(Bound, Option<Bound>), ListenError> {
    let last = Ports::recall(&config.data_dir);
    let (tls, plaintext) = (config.tls.as_ref(), config.plaintext);
    let public = Bound::preferring(last.public, config.listen, tls, plaintext)?;
    if tls.is_none() && config.listen.ip().is_loopback() {
        return Ok((public, None));
    }
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let local = Bound::preferring(last.local, loopback, None, Plaintext::LoopbackOnly)?;
    Ok((public, Some(local)))
}

/// HTTP and gRPC on one router, behind one authentication layer.
async fn router(app: &Arc<App>) -> axum::Router {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter
        .set_serving::<v1::agent_service_server::AgentServiceServer<AgentGateway>>()
        .await;
    reporter
        .set_serving::<v1::host_service_server::HostServiceServer<HostGateway>>()
        .await;
    reporter
        .set_serving::<v1::task_service_server::TaskServiceServer<TaskGateway>>()
        .await;
    reporter
        .set_serving::<v1::registry_service_server::RegistryServiceServer<RegistryGateway>>()
        .await;
    reporter
        .set_serving::<v1::blob_service_server::BlobServiceServer<BlobGateway>>()
        .await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(parallax_proto::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the committed descriptor set is whole");
    let mut routes = Routes::builder();
    routes
        .add_service(health)
        .add_service(reflection)
        .add_service(
            v1::agent_service_server::AgentServiceServer::new(AgentGateway::new(Arc::clone(app)))
                .max_decoding_message_size(FRAME_LIMIT),
        )
        .add_service(
            v1::host_service_server::HostServiceServer::new(HostGateway::new(Arc::clone(app)))
                .max_decoding_message_size(FRAME_LIMIT),
        )
        .add_service(
            v1::task_service_server::TaskServiceServer::new(TaskGateway::new(Arc::clone(app)))
                .max_decoding_message_size(FRAME_LIMIT),
        )
        .add_service(v1::registry_service_server::RegistryServiceServer::new(
            RegistryGateway::new(Arc::clone(app)),
        ))
        .add_service(
            v1::blob_service_server::BlobServiceServer::new(BlobGateway::new(Arc::clone(app)))
                .max_decoding_message_size(FRAME_LIMIT),
        );
    crate::http::serve(app, routes.routes().into_axum_router())
}

fn prepare(data_dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(data_dir)?;
    std::fs::set_permissions(data_dir, std::fs::Permissions::from_mode(0o700))
}
