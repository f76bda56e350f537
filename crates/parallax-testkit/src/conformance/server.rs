//! The scripted server: real tonic services whose every answer is the case's.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context;
use futures::Stream;
use parallax_proto::v1::agent_service_server::{AgentService, AgentServiceServer};
use parallax_proto::v1::blob_service_server::BlobServiceServer;
use parallax_proto::v1::{AgentDown, AgentUp, Limits};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::transport::server::TlsConnectInfo;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use super::CONNECT_PATIENCE;
use super::blobs::BlobStore;
use super::breach::Breach;
use super::door::{Cuttable, Scissors};
use super::journal::Journal;
use super::link::Arrival;
use super::tls::PrivateCa;

/// Sessions that wait for the case to look at them; a fixture dials one at a time.
const WAITING_CALLS: usize = 64;

/// The HTTP/2 windows: large, so that only the protocol's own windows hold an agent back and a
/// case sees what the agent would send.
const HTTP2_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// What the server tells an agent in its Welcome.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The lease, in milliseconds.
    pub ttl_ms: u64,
    /// The limits.
    pub limits: Limits,
}

impl Default for Terms {
    /// The product's own terms.
    fn default() -> Self {
        Self {
            ttl_ms: 30_000,
            limits: Limits {
                max_frame_bytes: 1024 * 1024,
                max_inline_bytes: 256 * 1024,
                max_blob_bytes: 64 * 1024 * 1024,
                partial_window_bytes: 256 * 1024,
                max_credit: 1024,
            },
        }
    }
}

/// A listener on `127.0.0.1` with an AgentService and a BlobService.
///
/// Dropping it closes every connection.
pub struct ScriptedServer {
    address: SocketAddr,
    tls: Option<(Identity, String)>,
    /// The blobs that the server has and received.
    pub blobs: BlobStore,
    calls: mpsc::Receiver<Call>,
    calls_in: mpsc::Sender<Call>,
    connections: watch::Sender<u64>,
    open: CancellationToken,
    serving: JoinSet<()>,
    /// Raised for each session, as lease epochs are.
    epoch: u64,
    journal: Journal,
}

/// A session that an agent opened and the case has not answered yet.
pub(super) struct Call {
    pub(super) authorization: Option<String>,
    pub(super) up: Streaming<AgentUp>,
    pub(super) reply: oneshot::Sender<Result<DownStream, Status>>,
    pub(super) scissors: Scissors,
}

pub(super) type DownStream = Pin<Box<dyn Stream<Item = Result<AgentDown, Status>> + Send>>;

impl ScriptedServer {
    /// Listens on a free port; with `ca`, over TLS.
    ///
    /// # Errors
    /// When no port can be had or the certificate is not usable.
    pub async fn start(ca: Option<&PrivateCa>, journal: Journal) -> anyhow::Result<Self> {
        let (calls_in, calls) = mpsc::channel(WAITING_CALLS);
        let mut server = Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: ca.map(|ca| {
                (
                    Identity::from_pem(&ca.leaf_pem, &ca.key_pem),
                    "https".to_owned(),
                )
            }),
            blobs: BlobStore::default(),
            calls,
            calls_in,
            connections: watch::Sender::new(0),
            open: CancellationToken::new(),
            serving: JoinSet::new(),
            epoch: 0,
            journal,
        };
        server.listen().await?;
        Ok(server)
    }

    /// The URL that agents dial.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = self.tls.as_ref().map_or("http", |(_, scheme)| scheme);
        format!("{scheme}://{}", self.address)
    }

    /// Closes the listener and cuts every connection, as a server does that dies.
    ///
    /// # Errors
    /// When the server's task panicked.
    pub async fn die(&mut self) -> anyhow::Result<()> {
        self.journal.note("server", "dies");
        self.open.cancel();
        while let Some(served) = self.serving.join_next().await {
            served.context("the server's task")?;
        }
        Ok(())
    }

    /// Listens on the same port again, after [`ScriptedServer::die`].
    ///
    /// # Errors
    /// When the port was taken meanwhile.
    pub async fn rise(&mut self) -> anyhow::Result<()> {
        self.open = CancellationToken::new();
        self.listen().await
    }

    /// Waits until `count` TCP connections have been made since the start.
    ///
    /// # Errors
    /// When they were not made within `patience`.
    pub async fn connections_reach(&self, count: u64, patience: Duration) -> anyhow::Result<()> {
        let mut made = self.connections.subscribe();
        let reached = made.wait_for(|made| *made >= count);
        tokio::time::timeout(patience, reached)
            .await
            .map_err(|_| {
                Breach::new(
                    format!("the agent dials again ({count} connections within {patience:?})"),
                    format!("made {} connections", *self.connections.borrow()),
                )
            })?
            .context("the server holds the sender")?;
        Ok(())
    }

    /// Whether a session waits for an answer.
    #[must_use]
    pub fn has_caller(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Waits for the next session of an agent with this concurrency, and reads its Hello.
    ///
    /// # Errors
    /// A [`Breach`] when none comes or it does not start with Hello.
    pub async fn arrival(&mut self, terms: Terms, concurrency: u32) -> anyhow::Result<Arrival> {
        let call = self.next_call(CONNECT_PATIENCE).await.ok_or_else(|| {
            Breach::new(
                "the agent opens a session (after a lost one, within the longest backoff)",
                format!("did not within {CONNECT_PATIENCE:?}"),
            )
        })?;
        self.greet(call, terms, concurrency).await
    }

    pub(super) async fn greet(
        &mut self,
        call: Call,
        terms: Terms,
        concurrency: u32,
    ) -> anyhow::Result<Arrival> {
        self.epoch += 1;
        Arrival::greet(call, terms, self.epoch, concurrency, self.journal.clone()).await
    }

    pub(super) async fn next_call(&mut self, patience: Duration) -> Option<Call> {
        tokio::time::timeout(patience, self.calls.recv())
            .await
            .ok() // Elapsed says no more than None does.
            .flatten()
    }

    async fn listen(&mut self) -> anyhow::Result<()> {
        let listener = TcpListener::bind(self.address)
            .await
            .with_context(|| format!("listening on {}", self.address))?;
        self.address = listener
            .local_addr()
            .context("reading the listener's port")?;
        let mut builder = Server::builder()
            .initial_stream_window_size(HTTP2_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_WINDOW_BYTES);
        if let Some((identity, _)) = &self.tls {
            builder = builder
                .tls_config(ServerTlsConfig::new().identity(identity.clone()))
                .context("setting up TLS")?;
        }
        let sessions = Sessions {
            calls: self.calls_in.clone(),
        };
        // Above the contract's 1 MiB, so that the ledger can tell what was sent.
        let sessions = AgentServiceServer::new(sessions).max_decoding_message_size(16 << 20);
        let router = builder
            .add_service(sessions)
            .add_service(BlobServiceServer::new(self.blobs.clone()));
        let incoming = self.incoming(listener);
        let (open, journal) = (self.open.clone(), self.journal.clone());
        self.serving.spawn(async move {
            tokio::select! {
                () = open.cancelled() => {}
                served = router.serve_with_incoming(incoming) => {
                    if let Err(error) = served {
                        journal.note("server", &format!("stopped serving: {error}"));
                    }
                }
            }
        });

        self.journal
            .note("server", &format!("listens at {}", self.url()));
        Ok(())
    }

    fn incoming(
        &self,
        listener: TcpListener,
    ) -> impl Stream<Item = std::io::Result<Cuttable>> + use<> {
        let (open, connections) = (self.open.clone(), self.connections.clone());
        tokio_stream::wrappers::TcpListenerStream::new(listener).map(move |accepted| {
            let stream = accepted?;
            stream.set_nodelay(true)?;
            connections.send_modify(|made| *made += 1);
            Ok(Cuttable::new(stream, open.child_token()))
        })
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.open.cancel();
    }
}

/// The `authorization` metadata, verbatim.
pub(super) fn authorization_of(metadata: &MetadataMap) -> Option<String> {
    let value = metadata.get("authorization")?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

struct Sessions {
    calls: mpsc::Sender<Call>,
}

#[tonic::async_trait]
impl AgentService for Sessions {
    type SessionStream = DownStream;

    async fn session(
        &self,
        request: Request<Streaming<AgentUp>>,
    ) -> Result<Response<DownStream>, Status> {
        let extensions = request.extensions();
        let scissors = extensions
            .get::<Scissors>()
            .or_else(|| {
                let tls = extensions.get::<TlsConnectInfo<Scissors>>();
                tls.map(TlsConnectInfo::get_ref)
            })
            .cloned()
            .ok_or_else(|| Status::internal("the connection came by no door"))?;
        let authorization = authorization_of(request.metadata());
        let (reply, answer) = oneshot::channel();
        let call = Call {
            authorization,
            up: request.into_inner(),
            reply,
            scissors,
        };
        self.calls
            .send(call)
            .await
            .map_err(|_| Status::unavailable("the case is over"))?;
        let down = answer
            .await
            .map_err(|_| Status::unavailable("the case is over"))??;
        Ok(Response::new(down))
    }
}

/// A stream of the frames that a case sends.
pub(super) fn down_stream(frames: mpsc::Receiver<Result<AgentDown, Status>>) -> DownStream {
    Box::pin(ReceiverStream::new(frames))
}
