//! The floor: the least that can stand between callers and agents.
//!
//! It speaks the same messages over the same connections with the same libraries, and does nothing
//! but pass them on: no credit, no lease, no deadline, no queue, no credential, no acknowledgement.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use axum::extract::{Json, Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::serve::ListenerExt;
use bytes::Bytes;
use parallax_api::tasks::InvokeRequest;
use parallax_proto::v1;
use parallax_proto::v1::agent_service_server::{AgentService, AgentServiceServer};
use parallax_proto::v1::task_service_server::{TaskService, TaskServiceServer};
use parallax_proto::v1::{agent_down, agent_up, invoke_down, invoke_up};
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::helper::Questions;

/// Frames that may wait on one connection.
const QUEUE: usize = 1024;
/// As the product's default.
const TTL_MS: u64 = 15_000;

type Frames<T> = mpsc::Sender<Result<T, Status>>;

/// Who is connected.
#[derive(Debug, Default)]
struct Relay {
    agents: RwLock<Vec<Frames<v1::AgentDown>>>,
    callers: RwLock<Vec<Frames<v1::InvokeDown>>>,
    replies: Mutex<HashMap<u64, oneshot::Sender<v1::TaskResult>>>,
    turn: AtomicUsize,
    last_reply: AtomicU64,
    serving: TaskTracker,
}

/// Answers over HTTP are kept apart from those of streams by this in place of a stream's number.
const HTTP: usize = 9_999_999_999;

/// The helper's life; its `ready` line has the URL.
pub(crate) fn run() -> Result<()> {
    let (questions, ()) = Questions::begin()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
    let url = format!("http://{}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        // Small frames must not wait for each other; without it the floor would only be slower.
        drop(stream.set_nodelay(true));
    });
    let relay = Arc::new(Relay::default());
    let mut routes = Routes::builder();
    let door = Door(Arc::clone(&relay));
    routes
        .add_service(AgentServiceServer::new(door.clone()))
        .add_service(TaskServiceServer::new(door));
    let router = axum::Router::new()
        .route("/api/agents/{agent}/invoke", post(invoke))
        .with_state(relay)
        .merge(routes.routes().into_axum_router());
    runtime.spawn(async move { axum::serve(listener, router).await });
    questions.answer(&url, |_| Ok(String::new()))
}

impl Relay {
    /// Adds an agent to those that are called in turn.
    async fn welcome(&self, down: &Frames<v1::AgentDown>) -> Result<()> {
        let welcome = v1::Welcome {
            ttl_ms: TTL_MS,
            proto_version: 1,
            ..v1::Welcome::default()
        };
        let frame = Some(agent_down::Frame::Welcome(welcome));
        down.send(Ok(v1::AgentDown { frame })).await?;
        self.agents.write().push(down.clone());
        Ok(())
    }

    fn add_caller(&self, frames: Frames<v1::InvokeDown>) -> usize {
        let mut callers = self.callers.write();
        callers.push(frames);
        callers.len() - 1
    }

    /// Passes a call on to the next agent. The ids of the way back travel in the task's id.
    async fn forward(&self, caller: usize, call: v1::InvokeCall) -> Result<()> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let agent = {
            let agents = self.agents.read();
            let at = turn.checked_rem(agents.len()).context("no agent is here")?;
            agents[at].clone()
        };
        let id = format!("tsk_{caller:010}{:016}", call.call_id);
        let task = v1::Task {
            r#ref: Some(v1::TaskRef {
                task_id: id.clone(),
                attempt: 1,
                run: String::new(),
                step: String::new(),
            }),
            capability: call.capability,
            idempotency_key: id.clone(),
            input: call.input,
            deadline_unix_ms: 1_700_000_000_000,
            context: Some(v1::TaskContext {
                message_id: id,
                caller: "bench".to_owned(),
                ..v1::TaskContext::default()
            }),
            time_left_ms: 60_000,
        };
        let frame = Some(agent_down::Frame::Task(task));
        Ok(agent.send(Ok(v1::AgentDown { frame })).await?)
    }

    /// Passes a result on to whoever called.
    async fn back(&self, result: v1::TaskResult) -> Result<()> {
        let id = result.r#ref.as_ref().map(|task| task.task_id.clone());
        let id = id.context("a result names its task")?;
        let caller: usize = id.get(4..14).context("an id of this relay")?.parse()?;
        let call_id: u64 = id.get(14..).context("an id of this relay")?.parse()?;
        if caller == HTTP {
            if let Some(reply) = self.replies.lock().remove(&call_id) {
                // The caller may have gone away.
                drop(reply.send(result));
            }
            return Ok(());
        }
        let down = self.callers.read().get(caller).cloned();
        let outcome = v1::task_outcome::Outcome::Success(v1::TaskSuccess {
            value: result.value,
            confidence: result.confidence,
            evidence: result.evidence,
            usage: result.usage,
        });
        let frame = v1::InvokeDown {
            call_id,
            task_id: id,
            event: Some(invoke_down::Event::Outcome(v1::TaskOutcome {
                outcome: Some(outcome),
            })),
            skipped: 0,
        };
        Ok(down.context("a known caller")?.send(Ok(frame)).await?)
    }
}

/// The relay as the services see it.
#[derive(Debug, Clone)]
struct Door(Arc<Relay>);

#[tonic::async_trait]
impl AgentService for Door {
    type SessionStream = ReceiverStream<Result<v1::AgentDown, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentUp>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (down, outbound) = mpsc::channel(QUEUE);
        let relay = Arc::clone(&self.0);
        let mut inbound = request.into_inner();
        self.0.serving.spawn(async move {
            // Ends with the connection.
            while let Ok(Some(up)) = inbound.message().await {
                let passed = match up.frame {
                    Some(agent_up::Frame::Hello(_)) => relay.welcome(&down).await,
                    Some(agent_up::Frame::Result(result)) => relay.back(result).await,
                    _ => Ok(()),
                };
                if passed.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

#[tonic::async_trait]
impl TaskService for Door {
    type InvokeStream = ReceiverStream<Result<v1::InvokeDown, Status>>;
    type WatchStream = ReceiverStream<Result<v1::TaskEvent, Status>>;

    async fn invoke(
        &self,
        request: Request<Streaming<v1::InvokeUp>>,
    ) -> Result<Response<Self::InvokeStream>, Status> {
        let (down, outbound) = mpsc::channel(QUEUE);
        let relay = Arc::clone(&self.0);
        let caller = relay.add_caller(down);
        let mut inbound = request.into_inner();
        self.0.serving.spawn(async move {
            // Ends with the connection.
            while let Ok(Some(up)) = inbound.message().await {
                if let Some(invoke_up::Frame::Call(call)) = up.frame
                    && relay.forward(caller, call).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(outbound)))
    }

    async fn submit(
        &self,
        _: Request<v1::SubmitTaskRequest>,
    ) -> Result<Response<v1::TaskView>, Status> {
        Err(only_attached())
    }

    async fn get(&self, _: Request<v1::GetTaskRequest>) -> Result<Response<v1::TaskView>, Status> {
        Err(only_attached())
    }

    async fn cancel(
        &self,
        _: Request<v1::CancelTaskRequest>,
    ) -> Result<Response<v1::TaskView>, Status> {
        Err(only_attached())
    }

    async fn watch(
        &self,
        _: Request<v1::WatchTaskRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(only_attached())
    }
}

fn only_attached() -> Status {
    Status::unimplemented("the floor relays attached calls only")
}

/// `POST /api/agents/{agent}/invoke` with the product's bodies.
async fn invoke(
    State(relay): State<Arc<Relay>>,
    Path(agent): Path<String>,
    Json(body): Json<InvokeRequest>,
) -> Result<Json<Answer>, StatusCode> {
    let (reply, answer) = oneshot::channel();
    let call_id = relay.last_reply.fetch_add(1, Ordering::Relaxed);
    relay.replies.lock().insert(call_id, reply);
    let input = body.input.ok_or(StatusCode::BAD_REQUEST)?;
    let json = Bytes::copy_from_slice(input.get().as_bytes());
    let call = v1::InvokeCall {
        call_id,
        agent,
        capability: body.capability,
        input: Some(v1::Payload {
            content: Some(v1::payload::Content::Json(json)),
        }),
        ..v1::InvokeCall::default()
    };
    let sent = relay.forward(HTTP, call).await;
    sent.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let result = answer.await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    let Some(v1::payload::Content::Json(json)) = result.value.and_then(|value| value.content)
    else {
        return Err(StatusCode::BAD_GATEWAY);
    };
    Ok(Json(Answer {
        task_id: result.r#ref.map_or_else(String::new, |task| task.task_id),
        value: serde_json::from_slice(&json).map_err(|_| StatusCode::BAD_GATEWAY)?,
        evidence: [],
    }))
}

/// As long as the product's answer.
#[derive(Serialize)]
struct Answer {
    task_id: String,
    value: Box<RawValue>,
    evidence: [(); 0],
}
