//! A control plane that does what a test tells it: a real gRPC server without any rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::Stream;
use parallax_proto::v1::host_service_server::{HostService, HostServiceServer};
use parallax_proto::v1::{
    ArtifactChunk, BuildState, Desired, DesiredBuild, DesiredReplica, GetArtifactRequest, HostDown,
    HostHello, HostUp, HostWelcome, JoinRequest, JoinResponse, KeptBuilds, LogDown, LogRecord,
    LogUp, ObservedReplica, host_down, host_up, log_up,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

/// How long anything that a test waits for may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// What the control plane accepts as the host's credential.
pub(crate) const CREDENTIAL: &str = "host-credential";
/// What it accepts as a join token, once.
pub(crate) const JOIN_TOKEN: &str = "join-token";

type Sent<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the control plane wants and has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) sessions: u64,
    pub(crate) connected: bool,
    pub(crate) hello: Option<HostHello>,
    pub(crate) replicas: BTreeMap<String, ObservedReplica>,
    /// Every observation, oldest first.
    pub(crate) history: Vec<ObservedReplica>,
    pub(crate) generation: u64,
    pub(crate) builds: BTreeMap<String, BuildState>,
    pub(crate) build_history: Vec<BuildState>,
    pub(crate) logs: BTreeMap<String, Log>,
    pub(crate) heartbeats: u64,
    pub(crate) removed_builds: BTreeSet<String>,
    /// Offsets at which artifacts were asked for.
    pub(crate) offsets: Vec<u64>,
}

/// What came of one log request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) records: Vec<LogRecord>,
    pub(crate) ended: bool,
    pub(crate) unavailable: Option<String>,
    pub(crate) unpaid: bool,
}

#[derive(Debug, Default)]
struct Script {
    replicas: BTreeMap<String, DesiredReplica>,
    builds: BTreeMap<String, DesiredBuild>,
    forget: Vec<String>,
    kept_builds: Option<Vec<String>>,
    generation: u64,
    artifacts: BTreeMap<String, Vec<u8>>,
    /// Bytes after which artifact streams break off, once.
    break_artifact_after: Option<usize>,
    session: Option<mpsc::Sender<Result<HostDown, Status>>>,
    joined: bool,
    /// Credit of each log stream: its first grant, then one for each batch.
    credit: u64,
}

#[derive(Clone, Debug)]
struct Service {
    script: Arc<Mutex<Script>>,
    known: watch::Sender<Known>,
    tasks: TaskTracker,
}

/// The control plane.
#[derive(Debug)]
pub(crate) struct Plane {
    pub(crate) url: String,
    address: SocketAddr,
    service: Service,
    seen: watch::Receiver<Known>,
    server: JoinSet<()>,
}

impl Plane {
    pub(crate) async fn start() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (known, seen) = watch::channel(Known::default());
        let script = Script {
            credit: 1 << 20,
            ..Script::default()
        };
        let service = Service {
            script: Arc::new(Mutex::new(script)),
            known,
            tasks: TaskTracker::new(),
        };
        let (address, server) = serve(any, service.clone()).await;
        Self {
            url: format!("http://{address}"),
            address,
            service,
            seen,
            server,
        }
    }

    /// Ends the server with all its connections, as a crash would.
    pub(crate) async fn stop(&mut self) {
        self.server.shutdown().await;
        self.service.script().session = None;
        self.service
            .known
            .send_modify(|known| known.connected = false);
    }

    /// Starts it again at the same address.
    pub(crate) async fn restart(&mut self) {
        let (_, server) = serve(self.address, self.service.clone()).await;
        self.server = server;
    }

    /// Changes what is wanted and tells the host, if it is there.
    pub(crate) async fn want_replica(&self, replica: DesiredReplica) {
        let id = replica.replica_id.clone();
        self.service.script().replicas.insert(id, replica);
        self.tell().await;
    }

    pub(crate) async fn drop_replica(&self, id: &str) {
        self.service.script().replicas.remove(id);
        self.tell().await;
    }

    pub(crate) async fn forget_replica(&self, id: &str) {
        self.service.script().replicas.remove(id);
        self.service.script().forget.push(id.to_owned());
        self.tell().await;
    }

    pub(crate) async fn want_build(&self, build: DesiredBuild) {
        let id = build.build_id.clone();
        self.service.script().builds.insert(id, build);
        self.tell().await;
    }

    /// Says which builds are still of use; before that the host gives up none.
    pub(crate) async fn keep_builds(&self, ids: &[&str]) {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        self.service.script().kept_builds = Some(ids);
        self.tell().await;
    }

    pub(crate) async fn drop_build(&self, id: &str) {
        self.service.script().builds.remove(id);
        self.tell().await;
    }

    pub(crate) fn put_artifact(&self, digest: &str, bytes: Vec<u8>) {
        self.service
            .script()
            .artifacts
            .insert(digest.to_owned(), bytes);
    }

    pub(crate) fn break_artifact_after(&self, bytes: usize) {
        self.service.script().break_artifact_after = Some(bytes);
    }

    pub(crate) fn set_log_credit(&self, bytes: u64) {
        self.service.script().credit = bytes;
    }

    /// Sends a frame to the host.
    pub(crate) async fn send(&self, frame: host_down::Frame) {
        let session = self.service.script().session.clone();
        let session = session.expect("the host is connected");
        let sent = session.send(Ok(HostDown { frame: Some(frame) })).await;
        sent.expect("the host listens");
    }

    async fn tell(&self) {
        let (session, desired) = {
            let mut script = self.service.script();
            script.generation += 1;
            (
                script.session.clone(),
                script.desired(self.seen.borrow().sessions),
            )
        };
        let Some(session) = session else { return };
        let frame = Some(host_down::Frame::Desired(desired));
        // A host that has just gone is told when it comes back.
        let _gone = session.send(Ok(HostDown { frame })).await;
    }

    /// Waits until what is known satisfies a test's wish.
    pub(crate) async fn until(&self, what: &str, mut wish: impl FnMut(&Known) -> bool) -> Known {
        let mut seen = self.seen.clone();
        let met = tokio::time::timeout(PATIENCE, seen.wait_for(|known| wish(known)));
        if let Ok(known) = met.await {
            return known.expect("the plane keeps the channel").clone();
        }
        let known = self.seen.borrow();
        panic!(
            "waited in vain: {what}\nreplicas: {:#?}\nbuilds: {:#?}\nlogs: {:#?}",
            known.replicas, known.builds, known.logs
        );
    }

    /// Waits until a replica is in a phase.
    pub(crate) async fn phase(&self, replica: &str, phase: &str) -> ObservedReplica {
        let in_phase = |known: &Known| {
            known
                .replicas
                .get(replica)
                .is_some_and(|it| it.phase == phase)
        };
        let known = self.until(&format!("{replica} {phase}"), in_phase).await;
        known.replicas[replica].clone()
    }

    /// Waits until a build has ended that fetches much.
    pub(crate) async fn built_slowly(&self, build: &str) -> BuildState {
        let mut patience = 5;
        loop {
            let ended = tokio::time::timeout(PATIENCE / 2, self.built(build)).await;
            match ended {
                Ok(state) => return state,
                Err(_) if patience > 0 => patience -= 1,
                Err(_) => panic!("the build takes too long: {:#?}", self.known().builds),
            }
        }
    }

    /// Waits until a build has ended.
    pub(crate) async fn built(&self, build: &str) -> BuildState {
        let over = |known: &Known| {
            known
                .builds
                .get(build)
                .is_some_and(|it| ["succeeded", "failed", "cancelled"].contains(&it.phase.as_str()))
        };
        let known = self.until(&format!("{build} over"), over).await;
        known.builds[build].clone()
    }

    pub(crate) fn known(&self) -> Known {
        self.seen.borrow().clone()
    }
}

async fn serve(address: SocketAddr, service: Service) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind(address).await.expect("the port is free");
    let address = listener.local_addr().expect("it is bound");
    let server = tonic::transport::Server::builder()
        .add_service(HostServiceServer::new(service))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let mut task = JoinSet::new();
    task.spawn(async move { server.await.expect("the server serves") });
    (address, task)
}

impl Script {
    fn desired(&self, epoch: u64) -> Desired {
        Desired {
            host_epoch: epoch,
            generation: self.generation,
            complete: true,
            replicas: self.replicas.values().cloned().collect(),
            builds: self.builds.values().cloned().collect(),
            forget_replicas: self.forget.clone(),
            kept_builds: self
                .kept_builds
                .clone()
                .map(|build_ids| KeptBuilds { build_ids }),
        }
    }
}

impl Service {
    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script
            .lock()
            .expect("no test panics while it holds the script")
    }

    fn check<T>(&self, request: &Request<T>, wanted: &str) -> Result<(), Status> {
        let given = request
            .metadata()
            .get("authorization")
            .and_then(|it| it.to_str().ok());
        if given == Some(&format!("Bearer {wanted}")) {
            return Ok(());
        }
        Err(Status::unauthenticated("unknown credential"))
    }

    fn hear(&self, frame: host_up::Frame) {
        self.known.send_modify(|known| match frame {
            host_up::Frame::Hello(hello) => {
                if let Some(observed) = &hello.observed {
                    known.observe(observed);
                }
                for build in &hello.builds {
                    known.builds.insert(build.build_id.clone(), build.clone());
                }
                known.hello = Some(hello);
            }
            host_up::Frame::Observed(observed) => known.observe(&observed),
            host_up::Frame::Build(build) => {
                known.builds.insert(build.build_id.clone(), build.clone());
                known.build_history.push(build);
            }
            host_up::Frame::Heartbeat(_) => known.heartbeats += 1,
            host_up::Frame::BuildsRemoved(gone) => known.removed_builds.extend(gone.build_ids),
            host_up::Frame::LogUnavailable(gone) => {
                known.logs.entry(gone.stream_id).or_default().unavailable = Some(gone.message);
            }
        });
    }
}

impl Known {
    fn observe(&mut self, observed: &parallax_proto::v1::Observed) {
        self.generation = observed.generation;
        if observed.complete {
            self.replicas.clear();
        }
        for replica in &observed.replicas {
            self.replicas
                .insert(replica.replica_id.clone(), replica.clone());
            self.history.push(replica.clone());
        }
    }
}

#[tonic::async_trait]
impl HostService for Service {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        self.check(&request, JOIN_TOKEN)?;
        if std::mem::replace(&mut self.script().joined, true) {
            return Err(Status::permission_denied("the token was used"));
        }
        Ok(Response::new(JoinResponse {
            host_id: "hst_00000000000000000000000001".to_owned(),
            credential: CREDENTIAL.to_owned(),
        }))
    }

    type SessionStream = Sent<HostDown>;

    async fn session(
        &self,
        request: Request<Streaming<HostUp>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        self.check(&request, CREDENTIAL)?;
        let mut up = request.into_inner();
        let (down, frames) = mpsc::channel(64);
        let first = up.message().await?.and_then(|up| up.frame);
        let Some(host_up::Frame::Hello(hello)) = first else {
            return Err(Status::invalid_argument("hello comes first"));
        };
        self.hear(host_up::Frame::Hello(hello));
        self.known.send_modify(|known| {
            known.sessions += 1;
            known.connected = true;
        });
        let epoch = self.known.borrow().sessions;
        let welcome = HostWelcome {
            host_id: "hst_00000000000000000000000001".to_owned(),
            host_epoch: epoch,
            ttl_ms: 3000,
            proto_version: 1,
        };
        let desired = {
            let mut script = self.script();
            script.session = Some(down.clone());
            script.desired(epoch)
        };
        for frame in [
            host_down::Frame::Welcome(welcome),
            host_down::Frame::Desired(desired),
        ] {
            let sent = down.send(Ok(HostDown { frame: Some(frame) })).await;
            sent.map_err(|_| Status::cancelled("gone"))?;
        }
        let service = self.clone();
        self.tasks.spawn(async move {
            while let Ok(Some(frame)) = up.message().await {
                if let Some(frame) = frame.frame {
                    service.hear(frame);
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(frames))))
    }

    type ArtifactsStream = Sent<ArtifactChunk>;

    async fn artifacts(
        &self,
        request: Request<GetArtifactRequest>,
    ) -> Result<Response<Self::ArtifactsStream>, Status> {
        self.check(&request, CREDENTIAL)?;
        let wanted = request.into_inner();
        self.known
            .send_modify(|known| known.offsets.push(wanted.offset));
        let (bytes, limit) = {
            let mut script = self.script();
            let found = script.artifacts.get(&wanted.digest).cloned();
            (
                found.ok_or_else(|| Status::not_found("no such source"))?,
                script.break_artifact_after.take(),
            )
        };
        let offset = usize::try_from(wanted.offset).expect("sources are small");
        let rest = bytes.get(offset..).unwrap_or_default().to_vec();
        let mut frames: Vec<Result<ArtifactChunk, Status>> = Vec::new();
        let sent = &rest[..limit.unwrap_or(rest.len()).min(rest.len())];
        frames.extend(sent.chunks(1024).map(|chunk| {
            Ok(ArtifactChunk {
                data: chunk.to_vec().into(),
            })
        }));
        if limit.is_some() {
            frames.push(Err(Status::unavailable("the line broke")));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(frames))))
    }

    type LogsStream = Sent<LogDown>;

    async fn logs(
        &self,
        request: Request<Streaming<LogUp>>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        self.check(&request, CREDENTIAL)?;
        let mut up = request.into_inner();
        let first = up.message().await?.and_then(|up| up.frame);
        let Some(log_up::Frame::StreamId(id)) = first else {
            return Err(Status::invalid_argument("the stream's id comes first"));
        };
        let credit = self.script().credit;
        let (down, frames) = mpsc::channel(64);
        let grant = |credit_bytes| Ok(LogDown { credit_bytes });
        down.try_send(grant(credit)).expect("the queue is empty");
        let known = self.known.clone();
        self.tasks.spawn(async move {
            let mut granted = credit;
            let mut received = 0;
            while let Ok(Some(frame)) = up.message().await {
                let Some(frame) = frame.frame else { continue };
                let mut batch_bytes = 0;
                known.send_modify(|known| {
                    let log = known.logs.entry(id.clone()).or_default();
                    match frame {
                        log_up::Frame::Batch(batch) => {
                            batch_bytes = batch.records.iter().map(|it| it.line.len() as u64).sum();
                            received += batch_bytes;
                            log.unpaid |= received > granted;
                            log.records.extend(batch.records);
                        }
                        log_up::Frame::End(_) => log.ended = true,
                        log_up::Frame::StreamId(_) => {}
                    }
                });
                granted += batch_bytes;
                if batch_bytes > 0
                    && down
                        .send(Ok(LogDown {
                            credit_bytes: batch_bytes,
                        }))
                        .await
                        .is_err()
                {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(frames))))
    }
}
