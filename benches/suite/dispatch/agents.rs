//! Agents that do no work: what is measured is the way to them and back.
//!
//! Each has a connection of its own, as agents on many machines do, and sends what an SDK sends
//! that merges frames: the result implies the acceptance and carries the next credit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use parallax_proto::v1;
use parallax_proto::v1::agent_service_client::AgentServiceClient;
use parallax_proto::v1::{agent_down, agent_up};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::Streaming;
use tonic::transport::Endpoint;

use super::wire::{AGENT, CAPABILITY, Target};
use crate::helper::Questions;

/// Tasks that one agent takes at a time.
const CREDIT: u32 = 8;
/// Handshakes under way at once; the server bounds them too.
const CONNECTING: usize = 16;

/// Whom the agents join, and how many they are.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) target: Target,
    pub(super) count: usize,
}

/// What the agents have seen so far.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Seen {
    /// Results that the server confirmed: received, or committed where the task is durable.
    pub(super) acknowledged: u64,
    /// Sessions that ended, of which there should be none.
    pub(super) ended: u64,
}

#[derive(Debug, Default)]
struct Tally {
    acknowledged: AtomicU64,
    ended: AtomicU64,
    sessions: TaskTracker,
}

/// The helper's life: joins, then answers every line with what the agents have [`Seen`].
pub(crate) fn run() -> Result<()> {
    let (questions, setup) = Questions::begin::<Setup>()?;
    // One thread: on a small machine a second would only take cores from what is measured.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tally = Arc::new(Tally::default());
    let (joined, all) = std::sync::mpsc::channel();
    let counted = Arc::clone(&tally);
    std::thread::spawn(move || {
        runtime.block_on(async {
            // Fails only where the helper is ending already.
            drop(joined.send(join_all(&setup, &counted).await));
            std::future::pending::<()>().await;
        });
    });
    all.recv().context("the agents' thread ended")??;
    questions.answer("", |_| {
        let seen = Seen {
            acknowledged: tally.acknowledged.load(Ordering::Relaxed),
            ended: tally.ended.load(Ordering::Relaxed),
        };
        serde_json::to_string(&seen).context("writing an answer")
    })
}

async fn join_all(setup: &Setup, tally: &Arc<Tally>) -> Result<()> {
    stream::iter(0..setup.count)
        .map(Ok)
        .try_for_each_concurrent(CONNECTING, |index| join(setup, index, tally))
        .await
}

async fn join(setup: &Setup, index: usize, tally: &Arc<Tally>) -> Result<()> {
    let endpoint = Endpoint::from_shared(setup.target.url.clone())?;
    let channel = endpoint
        .connect()
        .await
        .context("an agent cannot connect")?;
    let (up, outbound) = mpsc::channel(2 * CREDIT as usize + 1);
    up.send(frame(agent_up::Frame::Hello(hello(index)))).await?;
    let request = setup.target.request(ReceiverStream::new(outbound))?;
    let response = AgentServiceClient::new(channel).session(request).await;
    let mut down = response.context("an agent was refused")?.into_inner();
    let first = down.message().await.context("no Welcome came")?;
    let Some(agent_down::Frame::Welcome(welcome)) = first.and_then(|down| down.frame) else {
        bail!("the first frame down was not Welcome");
    };
    let sessions = tally.sessions.clone();
    let tally = Arc::clone(tally);
    sessions.spawn(async move {
        if serve(&welcome, &mut down, &up, &tally).await.is_err() {
            tally.ended.fetch_add(1, Ordering::Relaxed);
        }
    });
    Ok(())
}

/// Answers tasks until the session ends, which is always an error here.
async fn serve(
    welcome: &v1::Welcome,
    down: &mut Streaming<v1::AgentDown>,
    up: &mpsc::Sender<v1::AgentUp>,
    tally: &Tally,
) -> Result<()> {
    let beat = v1::Heartbeat {
        lease_epoch: welcome.lease_epoch,
        inflight: 0,
        load_ppm: None,
    };
    let mut beats = tokio::time::interval(Duration::from_millis(welcome.ttl_ms.max(3) / 3));
    loop {
        tokio::select! {
            received = down.message() => match received?.context("the session ended")?.frame {
                Some(agent_down::Frame::Task(task)) => {
                    up.send(frame(agent_up::Frame::Result(result(task)))).await?;
                }
                Some(agent_down::Frame::ResultAck(_)) => {
                    tally.acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                Some(agent_down::Frame::Goaway(goaway)) => bail!("sent away: {}", goaway.message),
                _ => {}
            },
            _ = beats.tick() => up.send(frame(agent_up::Frame::Heartbeat(beat))).await?,
        }
    }
}

fn frame(frame: agent_up::Frame) -> v1::AgentUp {
    v1::AgentUp { frame: Some(frame) }
}

/// Gives the input back.
fn result(task: v1::Task) -> v1::TaskResult {
    v1::TaskResult {
        r#ref: task.r#ref,
        value: task.input,
        confidence: None,
        evidence: Vec::new(),
        usage: None,
        credit: 1,
    }
}

fn hello(index: usize) -> v1::Hello {
    let capability = v1::Capability {
        name: CAPABILITY.to_owned(),
        version: "1".to_owned(),
        max_concurrency: 0,
        input_schema_json: Bytes::new(),
        idempotent: true,
        description: "gives its input back".to_owned(),
    };
    v1::Hello {
        agent_name: AGENT.to_owned(),
        instance_uuid: format!("00000000-0000-4000-8000-{index:012x}"),
        sdk: Some(v1::Sdk {
            name: "bench".to_owned(),
            version: "1".to_owned(),
            language: "rust".to_owned(),
        }),
        proto_versions: vec![1],
        features: Vec::new(),
        capabilities: vec![capability],
        labels: [].into(),
        credit: CREDIT,
        inventory: Vec::new(),
    }
}
