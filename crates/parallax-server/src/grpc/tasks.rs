//! `TaskService`: calls over gRPC.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parallax_core::error::{Code, Error, chain};
use parallax_core::id::TaskId;
use parallax_core::key::{Principal, Scope};
use parallax_core::name::Name;
use parallax_core::task::{Payload, TaskContext};
use parallax_proto::v1;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::app::App;
use crate::app::invoke::Invocation;
use crate::app::tasks::{Submission, TaskNews, TaskWatch};
use crate::auth::require;
use crate::dispatch::{Call, CallEvent, CallNews, Group, Sink, Update, Updates};

/// Calls that one stream may have open, and frames that wait for its caller. Beyond this the
/// stream is not read until outcomes are taken, which is flow control enough.
const OPEN_CALLS: usize = 1024;
/// Frames taken from a busy caller between two looks at everything else.
const BURST: u32 = 256;

pub(crate) struct TaskGateway {
    app: Arc<App>,
}

impl TaskGateway {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

type Stream<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl v1::task_service_server::TaskService for TaskGateway {
    type InvokeStream = tokio_stream::adapters::Map<
        ReceiverStream<CallNews>,
        fn(CallNews) -> Result<v1::InvokeDown, Status>,
    >;
    type WatchStream = Stream<v1::TaskEvent>;

    async fn invoke(
        &self,
        request: Request<Streaming<v1::InvokeUp>>,
    ) -> Result<Response<Self::InvokeStream>, Status> {
        let principal = super::principal(&request)?;
        require(&principal, Scope::Invoke).map_err(|e| super::status(&e))?;
        let (down, outbound) = mpsc::channel(OPEN_CALLS);
        let caller = Caller {
            app: Arc::clone(&self.app),
            principal,
            down,
            trace: trace_of(request.metadata()),
            open: Vec::new(),
            last: None,
        };
        self.app.tasks.spawn(caller.run(request.into_inner()));
        let outbound =
            tokio_stream::StreamExt::map(ReceiverStream::new(outbound), news as fn(_) -> _);
        Ok(Response::new(outbound))
    }

    async fn submit(
        &self,
        request: Request<v1::SubmitTaskRequest>,
    ) -> Result<Response<v1::TaskView>, Status> {
        let principal = super::principal(&request)?;
        let trace = trace_of(request.metadata());
        let body = request.into_inner();
        let submission = Submission {
            request: Invocation {
                agent: body.agent,
                capability: body.capability,
                input: input(body.input).map_err(|e| super::status(&e))?,
                deadline: Some(Duration::from_millis(body.deadline_ms)),
                context: in_trace(body.context, &trace),
            },
            idempotency_key: Some(body.idempotency_key).filter(|key| !key.is_empty()),
        };
        let task = self
            .app
            .submit_task(&principal, submission)
            .await
            .map_err(|e| super::status(&e))?;
        Ok(Response::new(view(&task)))
    }

    async fn get(
        &self,
        request: Request<v1::GetTaskRequest>,
    ) -> Result<Response<v1::TaskView>, Status> {
        let principal = super::principal(&request)?;
        let id = parse(&request.get_ref().task_id)?;
        let task = self
            .app
            .get_task(&principal, id)
            .await
            .map_err(|e| super::status(&e))?;
        Ok(Response::new(view(&task)))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelTaskRequest>,
    ) -> Result<Response<v1::TaskView>, Status> {
        let principal = super::principal(&request)?;
        let id = parse(&request.get_ref().task_id)?;
        let reason = request.get_ref().reason.clone();
        let task = self
            .app
            .cancel_task(&principal, id, &reason)
            .await
            .map_err(|e| super::status(&e))?;
        Ok(Response::new(view(&task)))
    }

    async fn watch(
        &self,
        request: Request<v1::WatchTaskRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let principal = super::principal(&request)?;
        let body = request.into_inner();
        let id = parse(&body.task_id)?;
        let mut watch = self
            .app
            .watch_task(&principal, id, body.after)
            .await
            .map_err(|e| super::status(&e))?;
        let (down, outbound) = mpsc::channel(16);
        let app = Arc::clone(&self.app);
        self.app.tasks.spawn(async move {
            let end = tokio::select! {
                end = relay(&mut watch, &down) => end,
                () = down.closed() => return,
                error = app.stream_end(&principal) => Err(error),
            };
            if let Err(error) = end {
                // The watcher may be gone already; then nobody is left to tell.
                drop(down.send(Err(super::status(&error))).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

/// Sends a task's changes down, to the last.
async fn relay(
    watch: &mut TaskWatch,
    down: &mpsc::Sender<Result<v1::TaskEvent, Status>>,
) -> Result<(), Error> {
    use v1::task_event::Detail;
    while let Some(news) = watch.next().await {
        let detail = match news? {
            TaskNews::Changed(change) => Err(change),
            TaskNews::Update(Update::Progress(progress)) => Ok(Detail::Progress(progress.into())),
            TaskNews::Update(Update::Partial(partial)) => Ok(Detail::Partial(partial.into())),
            TaskNews::Skipped(count) => Ok(Detail::Skipped(count)),
        };
        let frame = match detail {
            Err(change) => v1::TaskEvent {
                cursor: change.cursor,
                time_unix_us: change.at.unix_micros(),
                task: Some(view(&change.task)),
                detail: None,
            },
            Ok(detail) => v1::TaskEvent {
                detail: Some(detail),
                ..v1::TaskEvent::default()
            },
        };
        if down.send(Ok(frame)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The trace that a caller's metadata names, as far as it is text.
fn trace_of(metadata: &MetadataMap) -> TaskContext {
    let text = |name| metadata.get(name).and_then(|value| value.to_str().ok());
    let text = |name| text(name).unwrap_or_default().to_owned();
    TaskContext {
        traceparent: text("traceparent"),
        tracestate: text("tracestate"),
        baggage: text("baggage"),
        ..TaskContext::default()
    }
}

/// A call's own trace, or else that of its metadata.
fn in_trace(context: Option<v1::TaskContext>, metadata: &TaskContext) -> TaskContext {
    let mut context = context.map_or_else(TaskContext::default, TaskContext::from);
    if context.traceparent.is_empty() && !metadata.traceparent.is_empty() {
        context.traceparent.clone_from(&metadata.traceparent);
        context.tracestate.clone_from(&metadata.tracestate);
    }
    if context.baggage.is_empty() && !metadata.baggage.is_empty() {
        context.baggage.clone_from(&metadata.baggage);
    }
    context
}

/// One caller's stream of attached calls.
struct Caller {
    app: Arc<App>,
    principal: Principal,
    down: mpsc::Sender<CallNews>,
    /// Of calls that name no trace of their own.
    trace: TaskContext,
    /// Calls to abandon when the stream ends; ended ones are swept out as the list grows.
    open: Vec<OpenCall>,
    /// The group that was called last: streams tend to stay with one agent.
    last: Option<(String, Name)>,
}

struct OpenCall {
    call_id: u64,
    /// Gone once nobody holds the call any more: it has ended.
    call: Weak<Call>,
    group: Arc<Group>,
}

impl Caller {
    async fn run(mut self, mut inbound: Streaming<v1::InvokeUp>) {
        let (app, principal) = (Arc::clone(&self.app), self.principal.clone());
        let ended = app.stream_end(&principal);
        tokio::pin!(ended);
        let mut burst = 0_u32;
        let why = loop {
            tokio::select! {
                biased;
                frame = inbound.message() => match frame {
                    Ok(Some(v1::InvokeUp { frame: Some(v1::invoke_up::Frame::Call(call)) })) => {
                        // Not reading its outcomes keeps the caller from nothing but more calls.
                        tokio::select! {
                            biased;
                            begun = self.begin(call) => if begun.is_err() {
                                break gone();
                            },
                            why = &mut ended => break why,
                        }
                    }
                    Ok(Some(v1::InvokeUp { frame: Some(v1::invoke_up::Frame::Cancel(cancel)) })) => self.cancel(&cancel),
                    Ok(Some(_)) => {}
                    // The caller has sent all it wants to: the outcomes still go down.
                    Ok(None) => tokio::select! {
                        biased;
                        () = self.finished() => return,
                        why = &mut ended => break why,
                    },
                    Err(_) => break gone(),
                },
                () = self.down.closed() => break gone(),
                why = &mut ended => break why,
            }
            burst += 1;
            if burst.is_multiple_of(BURST)
                && let Err(why) = app.check_stream(&principal).await
            {
                break why;
            }
        };
        self.give_up(&why);
    }

    /// Takes a call on; `Err` when the caller is gone.
    async fn begin(&mut self, call: v1::InvokeCall) -> Result<(), ()> {
        let permit = self.down.clone().reserve_owned().await.map_err(|_| ())?;
        let call_id = call.call_id;
        let updates = call.stream.then(|| Updates::to(&self.down));
        let call = match self.call(call).await {
            Ok(call) => call,
            Err(error) => {
                answer(permit, call_id, None, &error);
                return Ok(());
            }
        };
        let sink = Sink::Stream {
            call_id,
            permit,
            updates,
        };
        match self.app.submit_attached(&call, sink).await {
            Ok(group) => self.remember(call_id, &call, group),
            Err(error) => {
                let permit = self.down.clone().reserve_owned().await.map_err(|_| ())?;
                answer(permit, call_id, Some(call.id), &error);
            }
        }
        Ok(())
    }

    async fn call(&mut self, call: v1::InvokeCall) -> Result<Arc<Call>, Error> {
        let request = Invocation {
            agent: call.agent,
            capability: call.capability,
            input: input(call.input)?,
            deadline: Some(Duration::from_millis(call.deadline_ms)),
            context: in_trace(call.context, &self.trace),
        };
        let name = self.name_of(&request.agent).await?;
        self.app.call(&self.principal, name, request)
    }

    async fn name_of(&mut self, agent: &str) -> Result<Name, Error> {
        match &self.last {
            Some((text, name)) if text == agent => Ok(name.clone()),
            _ => {
                let name = self.app.callee(self.principal.tenant, agent).await?;
                self.last = Some((agent.to_owned(), name.clone()));
                Ok(name)
            }
        }
    }

    fn remember(&mut self, call_id: u64, call: &Arc<Call>, group: Arc<Group>) {
        if self.open.len() >= 2 * OPEN_CALLS {
            // At most OPEN_CALLS hold a permit, so older entries beyond that have ended.
            self.open.retain(|open| open.call.strong_count() > 0);
        }
        self.open.push(OpenCall {
            call_id,
            call: Arc::downgrade(call),
            group,
        });
    }

    fn cancel(&self, cancel: &v1::InvokeCancel) {
        let named = |open: &&OpenCall| open.call_id == cancel.call_id;
        let Some(open) = self.open.iter().rev().find(named) else {
            return;
        };
        if let Some(call) = open.call.upgrade() {
            let grace = self.app.limits.cancel_grace;
            open.group
                .cancel(call.id, &cancel.reason, grace, Instant::now());
        }
    }

    /// Waits until every outcome is on its way, or the caller goes away.
    async fn finished(&self) {
        if self.down.reserve_many(OPEN_CALLS).await.is_err() {
            self.give_up(&gone());
        }
    }

    fn give_up(&self, why: &Error) {
        let grace = self.app.limits.cancel_grace;
        for open in &self.open {
            if let Some(call) = open.call.upgrade() {
                open.group.give_up(call.id, why, grace, Instant::now());
            }
        }
    }
}

fn gone() -> Error {
    Error::new(Code::Cancelled, "the caller went away")
}

fn answer(permit: mpsc::OwnedPermit<CallNews>, call_id: u64, task: Option<TaskId>, error: &Error) {
    permit.send(CallNews {
        call_id,
        task,
        skipped: 0,
        event: CallEvent::Outcome(error.into()),
    });
}

/// What a caller is told of one of its calls.
#[expect(
    clippy::unnecessary_wraps,
    reason = "frames of a stream are results, and calls go on whatever becomes of one"
)]
fn news(news: CallNews) -> Result<v1::InvokeDown, Status> {
    use v1::invoke_down::Event;
    let event = match news.event {
        CallEvent::Update(Update::Progress(progress)) => Event::Progress(progress.into()),
        CallEvent::Update(Update::Partial(partial)) => Event::Partial(partial.into()),
        CallEvent::Outcome(outcome) => Event::Outcome(outcome.into()),
    };
    Ok(v1::InvokeDown {
        call_id: news.call_id,
        task_id: news.task.map(|id| id.to_string()).unwrap_or_default(),
        event: Some(event),
        skipped: news.skipped,
    })
}

fn input(payload: Option<v1::Payload>) -> Result<Payload, Error> {
    let input = payload.map(Payload::try_from).transpose();
    let input = input.map_err(|e| Error::invalid(format!("`input`: {}", chain(&e))))?;
    Ok(input.unwrap_or_default())
}

fn parse(id: &str) -> Result<TaskId, Status> {
    id.parse()
        .map_err(|e| super::status(&Error::new(Code::InvalidRequest, format!("{e}"))))
}

fn view(task: &crate::app::tasks::TaskRecord) -> v1::TaskView {
    let row = &task.row;
    v1::TaskView {
        task_id: row.id.to_string(),
        agent_id: row.agent.map(|id| id.to_string()).unwrap_or_default(),
        agent_name: row.agent_name.to_string(),
        capability: row.capability.clone(),
        state: row.state.as_str().to_owned(),
        attempt: row.attempt,
        cancel: row.cancel.as_str().to_owned(),
        outcome: row.outcome.clone().map(v1::TaskOutcome::from),
        created_unix_us: row.created_at.unix_micros(),
        updated_unix_us: row.updated_at.unix_micros(),
    }
}
