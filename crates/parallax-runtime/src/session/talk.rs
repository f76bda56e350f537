//! One session: hello, welcome, then frames in both directions until one side has enough.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use parallax_proto::v1::host_goaway::Reason;
use parallax_proto::v1::{
    BuildsRemoved, HostDown, HostGoaway, HostHeartbeat, HostHello, HostUp, HostWelcome, LogRequest,
    LogUnavailable, host_down, host_up,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::connect::keep;
use super::{Reception, Session};
use crate::build::Connection;
use crate::error::{HostError, blocking, chain};
use crate::hub::Command;
use crate::logs;
use crate::task::Task;
use crate::view::View;

/// The version of the contract.
const PROTO_VERSION: u32 = 1;
/// How long the control plane may take to say welcome.
const WELCOME_DEADLINE: Duration = Duration::from_secs(15);
/// Changes are collected for this long before they are told.
const COALESCE: Duration = Duration::from_millis(50);
/// Everything is told again this often, so that a lost word mends itself.
const TELL_AGAIN: Duration = Duration::from_secs(15);
/// Frames that may wait for the network.
const UP_QUEUE: usize = 64;
/// Log streams that may be open at a time: each holds a file and a stream.
const MAX_LOG_STREAMS: usize = 128;

/// A session that the control plane ended.
#[derive(Debug)]
pub(super) struct Farewell {
    pub(super) reason: String,
    /// Another session began with the same credential.
    pub(super) superseded: bool,
    /// When to dial again, where it said so.
    pub(super) wait: Option<Duration>,
}

/// Why there is no session, or no longer one.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("cannot connect")]
    Connect(#[source] tonic::transport::Error),
    #[error(
        "the control plane's certificate is not signed by an authority that is trusted here; \
         name the PEM file with the right one with --ca-file or PARALLAX_CA_FILE"
    )]
    Untrusted(#[source] tonic::transport::Error),
    #[error("cannot read the host's credential in {path}")]
    Credential {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the host's credential is not plain text")]
    CredentialText,
    #[error(
        "the control plane refuses the join token; print a new one with `parallax hosts token`"
    )]
    Join(#[source] Status),
    #[error("the control plane refuses the session: {}", .0.message())]
    Refused(Status),
    #[error("the session broke off: {}", .0.message())]
    Broken(Status),
    #[error("the control plane keeps silent")]
    Silent,
    #[error("the control plane takes no more frames")]
    Stuck,
    #[error("the control plane speaks another protocol than version {PROTO_VERSION}")]
    Version,
    #[error("the host is shutting down")]
    ShuttingDown,
    #[error("the host cannot go on")]
    Host(#[from] HostError),
}

impl SessionError {
    /// Whether there was a session before the error.
    pub(super) fn was_welcome(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::Stuck)
    }
}

struct Talk<'a> {
    session: &'a mut Session,
    connection: Connection,
    up: mpsc::Sender<HostUp>,
    epoch: u64,
    /// The newest generation of this epoch.
    generation: u64,
    ttl: Duration,
    sent: View,
    logs: BTreeMap<String, Task>,
}

/// Talks until the connection ends.
pub(super) async fn talk(
    session: &mut Session,
    connection: Connection,
) -> Result<Farewell, SessionError> {
    let sent = session.view.borrow_and_update().clone();
    let (up, frames) = mpsc::channel(UP_QUEUE);
    let hello = HostHello {
        host_name: session.config.name.as_str().to_owned(),
        facts: Some((*session.facts).clone()),
        proto_versions: vec![PROTO_VERSION],
        observed: Some(sent.whole(0)),
        builds: sent.builds.values().map(|it| (**it).clone()).collect(),
    };
    let hello = host_up::Frame::Hello(hello);
    up.try_send(HostUp { frame: Some(hello) })
        .expect("the queue is empty");
    let request = connection.request(ReceiverStream::new(frames));
    let mut client = connection.client();
    let deadline = Instant::now() + WELCOME_DEADLINE;
    let mut down = tokio::time::timeout_at(deadline, client.session(request))
        .await
        .map_err(|_| SessionError::Silent)?
        .map_err(SessionError::Refused)?
        .into_inner();
    let first = tokio::time::timeout_at(deadline, down.message())
        .await
        .map_err(|_| SessionError::Silent)?
        .map_err(SessionError::Refused)?;
    let welcome = match first.and_then(|down| down.frame) {
        Some(host_down::Frame::Welcome(welcome)) => welcome,
        Some(host_down::Frame::Goaway(goaway)) => return Ok(farewell(goaway)),
        _ => return Err(SessionError::Silent),
    };
    if welcome.proto_version != PROTO_VERSION {
        return Err(SessionError::Version);
    }
    let mut talk = Talk::new(session, connection, up, &welcome, sent);
    talk.session
        .connections
        .send_replace(Some(talk.connection.clone()));
    talk.session.ready.send_replace(Reception::Welcomed);
    tracing::info!(
        host = welcome.host_id,
        epoch = welcome.host_epoch,
        "connected"
    );
    talk.run(&mut down).await
}

fn farewell(goaway: HostGoaway) -> Farewell {
    let wait =
        (goaway.reconnect_after_ms > 0).then(|| Duration::from_millis(goaway.reconnect_after_ms));
    Farewell {
        reason: format!("{}: {}", goaway.why().as_str_name(), goaway.message),
        superseded: goaway.why() == Reason::Superseded,
        wait,
    }
}

impl<'a> Talk<'a> {
    fn new(
        session: &'a mut Session,
        connection: Connection,
        up: mpsc::Sender<HostUp>,
        welcome: &HostWelcome,
        sent: View,
    ) -> Self {
        Self {
            session,
            connection,
            up,
            epoch: welcome.host_epoch,
            generation: 0,
            // A server that names no time is asked for none shorter than a second.
            ttl: Duration::from_millis(welcome.ttl_ms.max(3000)),
            sent,
            logs: BTreeMap::new(),
        }
    }

    async fn run(&mut self, down: &mut Streaming<HostDown>) -> Result<Farewell, SessionError> {
        let mut heartbeat = interval(self.ttl / 3);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut again = interval(TELL_AGAIN);
        again.reset();
        let mut tell_at: Option<Instant> = None;
        loop {
            tokio::select! {
                frame = down.message() => {
                    let frame = frame.map_err(SessionError::Broken)?;
                    let Some(frame) = frame else {
                        return Ok(Farewell {
                            reason: "it closed the stream".to_owned(),
                            superseded: false,
                            wait: None,
                        });
                    };
                    if let Some(farewell) = self.handle_frame(frame).await? {
                        return Ok(farewell);
                    }
                }
                changed = self.session.view.changed(), if tell_at.is_none() => {
                    changed.map_err(|_| SessionError::ShuttingDown)?;
                    tell_at = Some(Instant::now() + COALESCE);
                }
                () = sleep_until(tell_at.unwrap_or_else(Instant::now)), if tell_at.is_some() => {
                    tell_at = None;
                    self.report_changes().await?;
                }
                _ = again.tick() => self.report_all().await?,
                _ = heartbeat.tick() => {
                    let beat = HostHeartbeat { host_epoch: self.epoch };
                    self.send(host_up::Frame::Heartbeat(beat)).await?;
                }
            }
        }
    }

    /// Tells what has changed.
    async fn report_changes(&mut self) -> Result<(), SessionError> {
        let view = self.session.view.borrow_and_update().clone();
        // A revision must be known to be prepared before replicas are seen to run it.
        for build in view.builds_since(&self.sent) {
            self.send(host_up::Frame::Build(build)).await?;
        }
        let build_ids = view.builds_gone(&self.sent);
        if !build_ids.is_empty() {
            let removed = BuildsRemoved { build_ids };
            self.send(host_up::Frame::BuildsRemoved(removed)).await?;
        }
        if let Some(observed) = view.since(&self.sent, self.epoch) {
            self.send(host_up::Frame::Observed(observed)).await?;
        }
        self.sent = view;
        Ok(())
    }

    async fn report_all(&mut self) -> Result<(), SessionError> {
        self.report_changes().await?;
        let whole = self.sent.whole(self.epoch);
        self.send(host_up::Frame::Observed(whole)).await
    }

    async fn send(&self, frame: host_up::Frame) -> Result<(), SessionError> {
        match timeout(self.ttl, self.up.send(HostUp { frame: Some(frame) })).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(SessionError::Broken(Status::cancelled(
                "the stream is closed",
            ))),
            Err(_) => Err(SessionError::Stuck),
        }
    }

    async fn handle_frame(&mut self, down: HostDown) -> Result<Option<Farewell>, SessionError> {
        match down.frame {
            Some(host_down::Frame::Desired(mut desired)) => {
                if desired.host_epoch != self.epoch || desired.generation < self.generation {
                    tracing::warn!(
                        epoch = desired.host_epoch,
                        generation = desired.generation,
                        "stale desired state ignored"
                    );
                    return Ok(None);
                }
                self.generation = desired.generation;
                self.session.config.lead_home(&mut desired);
                self.pass_on(Command::Desired(Box::new(desired))).await?;
            }
            Some(host_down::Frame::Credential(update)) => {
                self.keep_credential(update.token).await;
            }
            Some(host_down::Frame::LogRequest(request)) => self.open_log(request).await?,
            Some(host_down::Frame::LogCancel(cancel)) => {
                self.logs.remove(&cancel.stream_id);
            }
            Some(host_down::Frame::Goaway(goaway)) => return Ok(Some(farewell(goaway))),
            // A frame of a newer version, or a second welcome: nothing to do.
            Some(host_down::Frame::Welcome(_)) | None => {}
        }
        Ok(None)
    }

    /// Keeps the host's own next credential, for the next connection.
    async fn keep_credential(&self, credential: String) {
        let path = self.session.config.credential.file().to_path_buf();
        match blocking(move || keep(&path, &credential)).await {
            Ok(()) => tracing::info!("the host's credential was renewed"),
            // The old one is good for a while; a session after it is refused with that reason.
            Err(error) => tracing::error!(
                error = chain(&error),
                "the host's next credential cannot be kept"
            ),
        }
    }

    async fn pass_on(&self, command: Command) -> Result<(), SessionError> {
        let sent = self.session.hub.send(command).await;
        sent.map_err(|_| SessionError::ShuttingDown)
    }

    async fn open_log(&mut self, request: LogRequest) -> Result<(), SessionError> {
        self.logs.retain(|_, task| !task.is_finished());
        if self.logs.len() >= MAX_LOG_STREAMS {
            let unavailable = LogUnavailable {
                stream_id: request.stream_id,
                message: format!("this host streams at most {MAX_LOG_STREAMS} logs at a time"),
            };
            return self.send(host_up::Frame::LogUnavailable(unavailable)).await;
        }
        let stream_id = request.stream_id.clone();
        let (hub, connection, up) = (
            self.session.hub.clone(),
            self.connection.clone(),
            self.up.clone(),
        );
        let task = Task::spawn(async move {
            let stream_id = request.stream_id.clone();
            if let Err(message) = logs::serve(&hub, &connection, request).await {
                let unavailable = LogUnavailable {
                    stream_id,
                    message: chain(&message),
                };
                let frame = Some(host_up::Frame::LogUnavailable(unavailable));
                // Without a session there is nobody to tell.
                let _ = up.send(HostUp { frame }).await;
            }
        });
        self.logs.insert(stream_id, task);
        Ok(())
    }
}
