//! `HostService`: where hosts join.

use std::sync::Arc;
use std::time::Duration;

use parallax_core::error::{Code, Error};
use parallax_core::id::HostId;
use parallax_core::key::{Principal, PrincipalKind, Scope};
use parallax_proto::v1;
use tokio::io::AsyncSeekExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::app::App;
use crate::auth::require;
use crate::hosts::{Connection, Farewell, Joined, LogFrame};

/// Control frames that may wait for a host to read them.
const OUTBOUND_FRAMES: usize = 256;
/// How long a host may be silent before it counts as gone.
const HOST_TTL: Duration = Duration::from_secs(20);
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How often credentials are looked at for renewal; more often where they live shorter.
const RENEWAL_CHECK: Duration = Duration::from_secs(30);
/// Looks within the life of a credential: it is renewed at half of it, and a look that comes late
/// must not come too late.
const LOOKS_IN_A_LIFE: u32 = 8;
/// Bytes of log lines that a host may send ahead of its reader.
const LOG_WINDOW_BYTES: u64 = 1024 * 1024;
const PROTO_VERSION: u32 = 1;
const SUPERSEDED: &str = "a newer session began with this host's credential";

pub(crate) struct HostGateway {
    app: Arc<App>,
}

impl HostGateway {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

type Stream<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl v1::host_service_server::HostService for HostGateway {
    type SessionStream = Stream<v1::HostDown>;
    type ArtifactsStream = Stream<v1::ArtifactChunk>;
    type LogsStream = Stream<v1::LogDown>;

    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        let principal = super::principal(&request)?;
        let body = request.into_inner();
        let joined =
            self.app
                .join_host(&principal, &body.host_name, body.facts.unwrap_or_default());
        let (host, credential) = joined.await.map_err(|e| super::status(&e))?;
        Ok(Response::new(v1::JoinResponse {
            host_id: host.to_string(),
            credential: credential.reveal().to_owned(),
        }))
    }

    async fn session(
        &self,
        request: Request<Streaming<v1::HostUp>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (principal, host) = host(&request)?;
        let (frames, outbound) = mpsc::channel(OUTBOUND_FRAMES);
        let app = Arc::clone(&self.app);
        self.app.tasks.spawn(async move {
            if let Err(status) = serve(&app, &principal, host, request.into_inner(), &frames).await
            {
                // The host may be gone already; then nobody is left to tell.
                drop(frames.send(Err(status)).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(outbound)))
    }

    async fn artifacts(
        &self,
        request: Request<v1::GetArtifactRequest>,
    ) -> Result<Response<Self::ArtifactsStream>, Status> {
        let (principal, host) = host(&request)?;
        let body = request.into_inner();
        let opened = self.app.open_artifact(&principal, host, &body.digest).await;
        let mut file = opened.map_err(|e| super::status(&e))?;
        file.seek(std::io::SeekFrom::Start(body.offset)).await?;
        let (chunks, outbound) = mpsc::channel(4);
        self.app
            .tasks
            .spawn(super::stream_file(file, chunks, |data| v1::ArtifactChunk {
                data: data.into(),
            }));
        Ok(Response::new(ReceiverStream::new(outbound)))
    }

    async fn logs(
        &self,
        request: Request<Streaming<v1::LogUp>>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let (_, host) = host(&request)?;
        let mut inbound = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, inbound.message()).await;
        let Ok(Ok(Some(v1::LogUp {
            frame: Some(v1::log_up::Frame::StreamId(stream_id)),
        }))) = first
        else {
            return Err(Status::invalid_argument(
                "the first frame of Logs must be stream_id",
            ));
        };
        let reader = self.app.hosts.log_streams.open(&stream_id, host);
        let reader = reader.ok_or_else(|| Status::not_found("nobody asked for this log stream"))?;
        let (down, outbound) = mpsc::channel(16);
        let shutdown = self.app.shutdown.clone();
        self.app.tasks.spawn(async move {
            tokio::select! {
                () = relay_logs(inbound, reader, down) => {}
                // The reader is told by its own stream.
                () = shutdown.cancelled() => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

/// Passes batches on and grants the host as many bytes as the reader has taken.
async fn relay_logs(
    mut inbound: Streaming<v1::LogUp>,
    reader: mpsc::Sender<LogFrame>,
    down: mpsc::Sender<Result<v1::LogDown, Status>>,
) {
    let mut grant = LOG_WINDOW_BYTES;
    loop {
        if down
            .send(Ok(v1::LogDown {
                credit_bytes: grant,
            }))
            .await
            .is_err()
        {
            return;
        }
        let frame = tokio::select! {
            frame = inbound.message() => frame,
            () = reader.closed() => return,
        };
        grant = 0;
        let passed = match frame {
            Ok(Some(v1::LogUp {
                frame: Some(v1::log_up::Frame::Batch(batch)),
            })) => {
                grant = batch.records.iter().map(|r| r.line.len() as u64).sum();
                reader.send(LogFrame::Records(batch.records)).await
            }
            Ok(Some(v1::LogUp {
                frame: Some(v1::log_up::Frame::End(_)),
            })) => {
                drop(reader.send(LogFrame::End).await);
                return;
            }
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(_) => {
                let message = "the host closed the log stream".to_owned();
                reader.send(LogFrame::Unavailable(message)).await
            }
        };
        if passed.is_err() {
            return;
        }
    }
}

async fn serve(
    app: &Arc<App>,
    principal: &Principal,
    host: HostId,
    mut inbound: Streaming<v1::HostUp>,
    frames: &mpsc::Sender<Result<v1::HostDown, Status>>,
) -> Result<(), Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, inbound.message()).await;
    let hello = match first {
        Ok(Ok(Some(v1::HostUp {
            frame: Some(v1::host_up::Frame::Hello(hello)),
        }))) => hello,
        Ok(Ok(None) | Err(_)) => return Ok(()),
        _ => {
            return Err(Status::invalid_argument(
                "the first frame of a host's session must be HostHello",
            ));
        }
    };
    if !hello.proto_versions.contains(&PROTO_VERSION) {
        return Err(Status::failed_precondition(
            "this server speaks protocol version 1",
        ));
    }
    let connection = app
        .admit_host(principal, host, hello, frames.clone())
        .await
        .map_err(|e| super::status(&e))?;
    connection.send(v1::host_down::Frame::Welcome(v1::HostWelcome {
        host_id: host.to_string(),
        host_epoch: connection.epoch,
        ttl_ms: u64::try_from(HOST_TTL.as_millis()).expect("20 s fit"),
        proto_version: PROTO_VERSION,
    }));
    match app.hosts.join(&connection) {
        Joined::Alone => {}
        Joined::Instead(old) => {
            old.go_away(Farewell::Superseded, SUPERSEDED);
            app.host_superseded(&connection, old.epoch).await;
        }
        Joined::Overtaken => {
            connection.go_away(Farewell::Superseded, SUPERSEDED);
            return Ok(());
        }
    }
    connection.refresh();
    app.host_joined(&connection).await;
    let end = exchange(app, principal, &connection, &mut inbound).await;
    if let Err(error) = &end {
        connection.go_away(farewell(error), &error.message);
    }
    if app.hosts.leave(&connection) {
        app.host_left(&connection).await;
    }
    Ok(())
}

/// The word for a session that an error ends. What the host did not cause is not held against it:
/// it reconnects, and tells everything again.
fn farewell(error: &Error) -> Farewell {
    match error.code {
        Code::StoreUnavailable | Code::StorageFull | Code::Internal => Farewell::StoreUnavailable,
        Code::ShuttingDown => Farewell::Shutdown,
        _ => Farewell::ProtocolError,
    }
}

/// Frames until either side ends the session; an error says what the host did wrong.
async fn exchange(
    app: &Arc<App>,
    principal: &Principal,
    connection: &Arc<Connection>,
    inbound: &mut Streaming<v1::HostUp>,
) -> Result<(), Error> {
    let mut renewal = tokio::time::interval(renewal_check(app));
    let mut renewed = false;
    let ended = app.stream_end(principal);
    tokio::pin!(ended);
    let silence = tokio::time::sleep(HOST_TTL);
    tokio::pin!(silence);
    let mut handed_out = crate::app::hosts::HandedOut::default();
    loop {
        tokio::select! {
            biased;
            () = connection.closed.cancelled() => return Ok(()),
            frame = inbound.message() => match frame {
                Ok(Some(v1::HostUp { frame: Some(frame) })) => {
                    silence.as_mut().reset(tokio::time::Instant::now() + HOST_TTL);
                    take(app, connection, frame).await?;
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Ok(()),
            },
            () = connection.changed() => send_desired(app, connection, &mut handed_out).await?,
            _ = renewal.tick() => {
                send_desired(app, connection, &mut handed_out).await?;
                renewed = renewed || renew(app, principal, connection).await;
            }
            () = &mut silence => {
                connection.go_away(Farewell::LeaseExpired, "the host said nothing for 20 s");
                return Ok(());
            }
            error = &mut ended => {
                let reason = match error.code {
                    Code::ShuttingDown => Farewell::Shutdown,
                    _ => Farewell::Unauthenticated,
                };
                connection.go_away(reason, &error.message);
                return Ok(());
            }
        }
    }
}

fn renewal_check(app: &App) -> Duration {
    let replicas = app.limits.replica_credential_ttl;
    let shortest = app
        .limits
        .host_credential_ttl
        .map_or(replicas, |ttl| ttl.min(replicas));
    // An interval must not be nothing.
    let check = (shortest / LOOKS_IN_A_LIFE).max(Duration::from_millis(10));
    check.min(RENEWAL_CHECK)
}

/// Sends the host its next credential, if it is time; whether it was sent.
async fn renew(app: &App, principal: &Principal, connection: &Connection) -> bool {
    match app
        .renewed_host_credential(principal, connection.host)
        .await
    {
        Ok(Some(update)) => connection.send(v1::host_down::Frame::Credential(update)),
        Ok(None) => false,
        // The next look tries again.
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot renew a host's credential"
            );
            false
        }
    }
}

async fn send_desired(
    app: &App,
    connection: &Connection,
    handed_out: &mut crate::app::hosts::HandedOut,
) -> Result<(), Error> {
    match app.desired(connection, handed_out).await {
        Ok(frame) => {
            connection.send(v1::host_down::Frame::Desired(frame));
        }
        // The host keeps what it has; the next look at it comes with the renewal at the latest.
        Err(error) => tracing::error!(
            error = &error as &dyn std::error::Error,
            "cannot read a host's desired state"
        ),
    }
    Ok(())
}

async fn take(
    app: &Arc<App>,
    connection: &Connection,
    frame: v1::host_up::Frame,
) -> Result<(), Error> {
    use v1::host_up::Frame as F;
    match frame {
        F::Hello(_) => Err(Error::invalid(
            "HostHello may come only once, as the first frame",
        )),
        F::Observed(observed) => {
            if observed.host_epoch != connection.epoch {
                return Err(Error::invalid("an observation of another epoch"));
            }
            app.observed(connection, observed).await
        }
        F::Build(state) => app.build_reported(connection, state).await,
        F::BuildsRemoved(removed) => {
            let ids = crate::app::hosts::build_ids(&removed.build_ids)?;
            app.builds_removed(connection, ids).await
        }
        F::Heartbeat(beat) => {
            if beat.host_epoch != connection.epoch {
                return Err(Error::invalid("a heartbeat of another epoch"));
            }
            app.host_seen(connection).await
        }
        F::LogUnavailable(gone) => {
            app.hosts
                .log_streams
                .unavailable(&gone.stream_id, connection.host, gone.message);
            Ok(())
        }
    }
}

fn host<T>(request: &Request<T>) -> Result<(Principal, HostId), Status> {
    let principal = super::principal(request)?;
    require(&principal, Scope::Host).map_err(|e| super::status(&e))?;
    match principal.kind {
        PrincipalKind::Host { host, .. } => Ok((principal, host)),
        _ => Err(super::status(&Error::new(
            Code::Forbidden,
            "this is a join token; trade it for the host's own credential with HostService.Join",
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_blamed_only_for_what_it_did() {
        let word = |code| farewell(&Error::new(code, "…"));
        assert_eq!(word(Code::InvalidRequest), Farewell::ProtocolError);
        assert_eq!(word(Code::StoreUnavailable), Farewell::StoreUnavailable);
        assert_eq!(word(Code::StorageFull), Farewell::StoreUnavailable);
        assert_eq!(word(Code::ShuttingDown), Farewell::Shutdown);
    }
}
