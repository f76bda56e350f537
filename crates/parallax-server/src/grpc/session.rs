//! One agent session: the handshake, then frames until either side ends it.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use parallax_core::error::{Code, Error, chain};
use parallax_core::id::{ConnectionId, TaskId};
use parallax_core::instance::Capability;
use parallax_core::key::Principal;
use parallax_core::task::{MAX_BLOB_BYTES, MAX_INLINE_BYTES, Outcome, Partial, Progress, Success};
use parallax_proto::v1;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::app::App;
use crate::app::instances::{Admitted, Hello};
use crate::clock::random;
use crate::dispatch::{Group, Joining, Link, MAX_CREDIT, SlotId};

/// The largest frame either side sends.
pub(crate) const MAX_FRAME_BYTES: usize = 1024 * 1024;
/// Bytes of partials that one task may have under way.
const PARTIAL_WINDOW_BYTES: u32 = 256 * 1024;
/// A connection that says nothing for this long is not an agent.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a draining session is looked at: what it still holds may end elsewhere.
const DRAIN_CHECK: Duration = Duration::from_millis(100);
/// Frames taken from a busy agent between two looks at everything else.
const BURST: u32 = 256;
const PROTO_VERSION: u32 = 1;

type Frames = mpsc::Sender<Result<Box<v1::AgentDown>, Status>>;

/// Runs a session to its end.
pub(super) async fn run(
    app: Arc<App>,
    principal: Principal,
    mut inbound: Streaming<v1::AgentUp>,
    frames: Frames,
    handshake: OwnedSemaphorePermit,
) {
    let hello = match tokio::time::timeout(HELLO_TIMEOUT, inbound.message()).await {
        Ok(Ok(Some(v1::AgentUp {
            frame: Some(v1::agent_up::Frame::Hello(hello)),
        }))) => hello,
        Ok(Ok(Some(_))) => {
            return refuse(
                &frames,
                Status::invalid_argument("the first frame must be Hello"),
            )
            .await;
        }
        Ok(Ok(None) | Err(_)) => return,
        Err(_) => return refuse(&frames, Status::deadline_exceeded("no Hello within 10 s")).await,
    };
    // Boxed: what it takes to begin should not be kept for as long as the session lasts.
    match Box::pin(Session::begin(app, principal, hello, &frames)).await {
        Ok(session) => {
            drop(handshake);
            drop(frames);
            session.serve(inbound).await;
        }
        Err(status) => refuse(&frames, status).await,
    }
}

async fn refuse(frames: &Frames, status: Status) {
    // The peer may be gone already; then nobody is left to tell.
    drop(frames.send(Err(status)).await);
}

struct Session {
    app: Arc<App>,
    principal: Principal,
    group: Arc<Group>,
    slot: SlotId,
    link: Link,
    lease_epoch: u64,
    drain_until: Option<Instant>,
}

/// Why a session stops serving.
enum End {
    /// The connection is gone or was given up.
    Closed,
    /// We say why, then close.
    GoAway(v1::goaway::Reason, String),
}

impl Session {
    async fn begin(
        app: Arc<App>,
        principal: Principal,
        mut hello: v1::Hello,
        frames: &Frames,
    ) -> Result<Self, Status> {
        check_version(&hello)?;
        let inventory = std::mem::take(&mut hello.inventory);
        let credit = hello.credit;
        let Admitted {
            group,
            peer,
            lease_epoch,
            draining,
            // Held until it has joined.
            claim: _claim,
        } = app
            .admit(&principal, introduction(hello)?)
            .await
            .map_err(|e| super::status(&e))?;
        let link = Link {
            connection: ConnectionId::new(app.clock.now(), random()),
            frames: frames.clone(),
            closed: CancellationToken::new(),
        };
        let joined = group.join(Joining {
            peer,
            link: link.clone(),
            lease_epoch,
            lease_until: Instant::now() + app.limits.lease_ttl,
            connected_at: app.clock.now(),
            credit,
            draining,
            inventory,
            welcome: welcome(&app, &link, lease_epoch),
        });
        let Some(joined) = joined else {
            return Err(Status::aborted("a newer session of this instance began"));
        };
        if let Some(old) = joined.superseded {
            old.go_away(
                v1::goaway::Reason::Superseded,
                "a newer session of this instance began",
            );
        }
        let session = Self {
            app,
            principal,
            group,
            slot: joined.slot,
            link,
            lease_epoch,
            drain_until: None,
        };
        session
            .app
            .instance_changed(&session.group, session.slot, true);
        Ok(session)
    }

    async fn serve(mut self, mut inbound: Streaming<v1::AgentUp>) {
        let end = self.exchange(&mut inbound).await;
        if let End::GoAway(reason, message) = end {
            self.link.go_away(reason, message);
        }
        let peer = self.group.peer(self.slot);
        let gone = self.group.leave(self.slot);
        if let Some(peer) = peer {
            self.app.instance_left(&self.group, &peer, gone);
        }
    }

    async fn exchange(&mut self, inbound: &mut Streaming<v1::AgentUp>) -> End {
        let (app, principal, link) = (
            Arc::clone(&self.app),
            self.principal.clone(),
            self.link.clone(),
        );
        // Polled only when it has something to say: a session wakes for every frame, and to ask
        // clocks and shared tokens each time would cost more than the frame.
        let mut seldom =
            FuturesUnordered::from_iter([interrupted(&app, &principal, &link).boxed()]);
        let mut drain = tokio::time::interval(DRAIN_CHECK);
        let mut burst = 0_u32;
        loop {
            let draining = self.drain_until.is_some();
            tokio::select! {
                biased;
                frame = inbound.message() => {
                    if let Err(end) = self.take_next(frame).await {
                        return end;
                    }
                    burst += 1;
                    // A busy agent leaves no time for the rest.
                    if burst.is_multiple_of(BURST)
                        && let Err(end) = self.look_up().await
                    {
                        return end;
                    }
                }
                Some(end) = seldom.next() => return end,
                _ = drain.tick(), if draining => if self.is_drained() {
                    return End::GoAway(v1::goaway::Reason::Drained, "nothing is in flight any more".to_owned());
                },
            }
        }
    }

    async fn look_up(&self) -> Result<(), End> {
        if self.link.closed.is_cancelled() {
            return Err(End::Closed);
        }
        let looked = self.app.check_stream(&self.principal).await;
        looked.map_err(go_away)
    }

    async fn take_next(&mut self, frame: Result<Option<v1::AgentUp>, Status>) -> Result<(), End> {
        let taken = match frame {
            // Boxed: such answers are few, and every session would keep room for the look-up.
            Ok(Some(v1::AgentUp {
                frame: Some(v1::agent_up::Frame::Result(result)),
            })) if names_blobs(&result) => Box::pin(self.take_stored(result)).await,
            Ok(Some(v1::AgentUp { frame: Some(frame) })) => self.take(frame),
            // A frame of a later protocol version: append-only, so it may be passed over.
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(_) => return Err(End::Closed),
        };
        taken.map_err(|error| {
            let reason = v1::goaway::Reason::ProtocolError;
            End::GoAway(reason, error.message.into_owned())
        })
    }

    fn is_drained(&self) -> bool {
        let late = self
            .drain_until
            .is_some_and(|until| until <= Instant::now());
        late || self.group.in_flight(self.slot) == 0
    }

    fn take(&mut self, frame: v1::agent_up::Frame) -> Result<(), Error> {
        use v1::agent_up::Frame as F;
        match frame {
            F::Hello(_) => {
                return Err(Error::invalid(
                    "Hello may come only once, as the first frame",
                ));
            }
            F::Credit(credit) => {
                self.group.grant(self.slot, credit.n);
                self.app.room_made(&self.group);
            }
            F::Accepted(accepted) => {
                let (task, id) = parse(accepted.r#ref.as_ref())?;
                self.group.accepted(self.slot, id, task.attempt);
            }
            F::Progress(progress) => {
                let (task, id) = parse(progress.r#ref.as_ref())?;
                let attempt = task.attempt;
                match Progress::try_from(progress) {
                    Ok(progress) => self.group.progress(self.slot, id, attempt, progress),
                    // It costs nobody an answer; and an agent that repeats it must not fill the log.
                    Err(error) => tracing::debug!(
                        agent = %self.group.name, task = %id, error = &error as &dyn std::error::Error,
                        "an agent's progress is passed over"
                    ),
                }
            }
            F::Partial(partial) => {
                let (task, id) = parse(partial.r#ref.as_ref())?;
                let (attempt, partial) = (task.attempt, Partial::from(partial));
                self.group
                    .partial(self.slot, id, attempt, partial, PARTIAL_WINDOW_BYTES)?;
            }
            F::Result(result) => self.take_result(result)?,
            F::Failed(failed) => self.take_failure(failed)?,
            F::CancelAck(ack) => {
                let outcome = ack.outcome();
                let (task, id) = parse(ack.r#ref.as_ref())?;
                self.group
                    .cancel_acked(self.slot, id, task.attempt, outcome.into());
                self.app.room_made(&self.group);
            }
            F::Heartbeat(beat) => self.take_heartbeat(&beat)?,
            F::Drain(drain) => {
                self.group.drain(self.slot);
                self.drain_until = Some(Instant::now() + Duration::from_millis(drain.deadline_ms));
                self.app.instance_changed(&self.group, self.slot, true);
            }
            F::Pong(_) => {}
        }
        Ok(())
    }

    fn take_result(&self, mut result: v1::TaskResult) -> Result<(), Error> {
        let reference = result.r#ref.take();
        let (_, id) = parse(reference.as_ref())?;
        let credit = result.credit;
        self.end(reference.unwrap_or_default(), id, judge(result), credit);
        Ok(())
    }

    /// An answer with blobs, which must be there.
    async fn take_stored(&self, mut result: v1::TaskResult) -> Result<(), Error> {
        let reference = result.r#ref.take();
        let (_, id) = parse(reference.as_ref())?;
        let credit = result.credit;
        let mut outcome = judge(result);
        if let Outcome::Success(success) = &outcome
            && let Err(error) = self.app.check_blobs(self.group.tenant, success).await
        {
            // A disk that errs says nothing of the answer: the agent keeps it, and offers it again.
            if error.code != Code::AgentFailed {
                return Err(error);
            }
            tracing::warn!(
                agent = %self.group.name, task = %id, error = &error as &dyn std::error::Error,
                "an agent's answer is refused"
            );
            outcome = Outcome::from(&error);
        }
        self.end(reference.unwrap_or_default(), id, outcome, credit);
        Ok(())
    }

    fn take_failure(&self, mut failed: v1::TaskFailed) -> Result<(), Error> {
        let reference = failed.r#ref.take();
        let (_, id) = parse(reference.as_ref())?;
        let credit = failed.credit;
        let outcome = Outcome::Problem(failed.into());
        self.end(reference.unwrap_or_default(), id, outcome, credit);
        Ok(())
    }

    fn end(&self, task: v1::TaskRef, id: TaskId, outcome: Outcome, credit: u32) {
        self.group.ended(self.slot, task, id, outcome, credit);
        self.app.room_made(&self.group);
    }

    fn take_heartbeat(&self, beat: &v1::Heartbeat) -> Result<(), Error> {
        if beat.lease_epoch != self.lease_epoch {
            let message = format!(
                "a heartbeat of epoch {}; this session has {}",
                beat.lease_epoch, self.lease_epoch
            );
            return Err(Error::invalid(message));
        }
        self.group.renew(
            self.slot,
            Instant::now() + self.app.limits.lease_ttl,
            beat.load_ppm,
        );
        Ok(())
    }
}

/// Pings the agent until the session is to end.
async fn interrupted(app: &App, principal: &Principal, link: &Link) -> End {
    let ended = app.stream_end(principal);
    tokio::pin!(ended);
    let mut ping = tokio::time::interval(app.limits.lease_ttl / 2);
    loop {
        tokio::select! {
            () = link.closed.cancelled() => return End::Closed,
            error = &mut ended => return go_away(error),
            _ = ping.tick() => if !link.send(v1::agent_down::Frame::Ping(v1::Ping { nonce: 0 })) {
                return End::Closed;
            },
        }
    }
}

/// What the agent is told when the server ends the stream.
fn go_away(error: Error) -> End {
    let reason = match error.code {
        Code::ShuttingDown => v1::goaway::Reason::Shutdown,
        _ => v1::goaway::Reason::Unauthenticated,
    };
    End::GoAway(reason, error.message.into_owned())
}

/// The first frame down, but for the verdicts on the inventory.
fn welcome(app: &App, link: &Link, lease_epoch: u64) -> v1::Welcome {
    v1::Welcome {
        session_id: link.connection.to_string(),
        lease_epoch,
        ttl_ms: millis(app.limits.lease_ttl),
        proto_version: PROTO_VERSION,
        features: Vec::new(),
        limits: Some(limits()),
        verdicts: Vec::new(),
    }
}

fn check_version(hello: &v1::Hello) -> Result<(), Status> {
    if hello.proto_versions.contains(&PROTO_VERSION) {
        return Ok(());
    }
    let message = format!(
        "this server speaks protocol version 1; the agent speaks {:?}",
        hello.proto_versions
    );
    Err(Status::failed_precondition(message))
}

fn limits() -> v1::Limits {
    v1::Limits {
        max_frame_bytes: u32::try_from(MAX_FRAME_BYTES).expect("1 MiB fits"),
        max_inline_bytes: u32::try_from(MAX_INLINE_BYTES).expect("256 KiB fits"),
        max_blob_bytes: MAX_BLOB_BYTES,
        partial_window_bytes: PARTIAL_WINDOW_BYTES,
        max_credit: MAX_CREDIT,
    }
}

/// What an agent's result is worth. One that is not what the contract promises fails its task, and
/// not the session: the agent would only offer it again.
fn judge(result: v1::TaskResult) -> Outcome {
    let why = match Success::try_from(result) {
        Ok(success) => match success.value.check_size() {
            Ok(()) => return Outcome::Success(success),
            Err(error) => error.message.into_owned(),
        },
        Err(error) => chain(&error),
    };
    let message = format!("the agent's answer was refused: {why}");
    Outcome::problem(Code::AgentFailed, message)
}

fn names_blobs(result: &v1::TaskResult) -> bool {
    let content = result.value.as_ref().and_then(|v| v.content.as_ref());
    matches!(content, Some(v1::payload::Content::Blob(_)))
        || result.evidence.iter().any(|e| e.blob.is_some())
}

/// What a Hello says of its instance.
fn introduction(hello: v1::Hello) -> Result<Hello, Status> {
    let capabilities = hello.capabilities.into_iter().map(Capability::try_from);
    let capabilities: Result<_, _> = capabilities.collect();
    Ok(Hello {
        agent_name: hello.agent_name,
        instance_uuid: hello.instance_uuid,
        sdk: hello.sdk.unwrap_or_default().into(),
        capabilities: capabilities.map_err(|e| Status::invalid_argument(chain(&e)))?,
        labels: hello.labels.into_iter().collect(),
    })
}

fn parse(reference: Option<&v1::TaskRef>) -> Result<(&v1::TaskRef, TaskId), Error> {
    let reference =
        reference.ok_or_else(|| Error::invalid("the frame names no task (`ref` is missing)"))?;
    let id = reference
        .task_id
        .parse()
        .map_err(|e| Error::invalid(format!("{e}")))?;
    Ok((reference, id))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
