//! Callers with many calls on each of a few streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use benches::sample::median;
use parallax_proto::v1;
use parallax_proto::v1::task_service_client::TaskServiceClient;
use parallax_proto::v1::{invoke_down, invoke_up, task_outcome};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use super::wire::{AGENT, CAPABILITY, Target, input};

/// Connections, with one stream each.
const STREAMS: usize = 8;
/// Calls in flight on each stream: about one for each agent in all.
const IN_FLIGHT: usize = 128;
/// Before counting starts, so that every stream is at full depth.
const WARM: Duration = Duration::from_millis(300);
/// What is counted.
const SPAN: Duration = Duration::from_millis(1500);
/// Calls one after the other.
const SEQUENTIAL: usize = 500;

/// One caller's stream.
struct Caller {
    calls: mpsc::Sender<v1::InvokeUp>,
    outcomes: Streaming<v1::InvokeDown>,
    last: u64,
}

/// Calls answered in one second, with every stream full.
pub(super) async fn throughput(target: &Target) -> Result<f64> {
    let done = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..STREAMS {
        let caller = Caller::open(target).await?;
        callers.spawn(caller.keep_full(Arc::clone(&done), Arc::clone(&stop)));
    }
    tokio::time::sleep(WARM).await;
    let (started, before) = (Instant::now(), done.load(Ordering::Relaxed));
    tokio::time::sleep(SPAN).await;
    let counted = done.load(Ordering::Relaxed) - before;
    let rate = counted as f64 / started.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended.context("a caller panicked")??;
    }
    Ok(rate)
}

/// The median time of one call after the other, in milliseconds.
pub(super) async fn unloaded_ms(target: &Target) -> Result<f64> {
    let mut caller = Caller::open(target).await?;
    let mut times = Vec::with_capacity(SEQUENTIAL);
    for _ in 0..SEQUENTIAL {
        let started = Instant::now();
        caller.call().await?;
        caller.outcome().await?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(median(&times))
}

/// Makes `count` calls, in as many at a time as a stream may hold.
pub(super) async fn exercise(target: &Target, count: usize) -> Result<()> {
    let mut caller = Caller::open(target).await?;
    for _ in 0..count.div_ceil(IN_FLIGHT) {
        for _ in 0..IN_FLIGHT {
            caller.call().await?;
        }
        for _ in 0..IN_FLIGHT {
            caller.outcome().await?;
        }
    }
    Ok(())
}

impl Caller {
    async fn open(target: &Target) -> Result<Self> {
        let endpoint = Endpoint::from_shared(target.url.clone())?;
        let channel = endpoint
            .connect()
            .await
            .context("a caller cannot connect")?;
        let (calls, outbound) = mpsc::channel(IN_FLIGHT);
        let request = target.request(ReceiverStream::new(outbound))?;
        let response = TaskServiceClient::new(channel).invoke(request).await;
        Ok(Self {
            calls,
            outcomes: response.context("a caller was refused")?.into_inner(),
            last: 0,
        })
    }

    async fn call(&mut self) -> Result<()> {
        self.last += 1;
        let call = v1::InvokeCall {
            call_id: self.last,
            agent: AGENT.to_owned(),
            capability: CAPABILITY.to_owned(),
            input: Some(input()),
            deadline_ms: 60_000,
            context: None,
            stream: false,
        };
        let frame = Some(invoke_up::Frame::Call(call));
        Ok(self.calls.send(v1::InvokeUp { frame }).await?)
    }

    async fn outcome(&mut self) -> Result<()> {
        let down = self.outcomes.message().await?;
        let event = down.context("the caller's stream ended")?.event;
        let Some(invoke_down::Event::Outcome(outcome)) = event else {
            bail!("nobody asked for anything but outcomes");
        };
        match outcome.outcome {
            Some(task_outcome::Outcome::Success(_)) => Ok(()),
            other => bail!("a call failed: {other:?}"),
        }
    }

    /// Makes a call for every outcome until told to stop, then takes what is left.
    async fn keep_full(mut self, done: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> Result<()> {
        for _ in 0..IN_FLIGHT {
            self.call().await?;
        }
        let mut open = IN_FLIGHT;
        while open > 0 {
            self.outcome().await?;
            done.fetch_add(1, Ordering::Relaxed);
            if stop.load(Ordering::Relaxed) {
                open -= 1;
            } else {
                self.call().await?;
            }
        }
        Ok(())
    }
}
