//! Tasks that are committed before they are sent and again when their result is here.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use parallax_proto::v1;
use parallax_proto::v1::task_service_client::TaskServiceClient;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use super::agents::Seen;
use super::wire::{AGENT, CAPABILITY, Target, input};
use crate::helper::Helper;

/// Tasks in one sample.
const TASKS: usize = 4000;
const CONNECTIONS: usize = 4;
/// Submissions under way on each connection; twice a batch of the store's in all, so that one
/// fills while the other is written.
const IN_FLIGHT: usize = 100;
const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(2);

/// Tasks a second, from the first submission to the last committed result.
pub(super) async fn throughput(target: &Target, agents: &mut Helper) -> Result<f64> {
    let before = seen(agents)?.acknowledged;
    let started = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let endpoint = Endpoint::from_shared(target.url.clone())?;
        let channel = endpoint.connect().await?;
        for _ in 0..IN_FLIGHT {
            callers.spawn(submit(channel.clone(), target.clone()));
        }
    }
    while let Some(ended) = callers.join_next().await {
        ended.context("a caller panicked")??;
    }
    // The server confirms a durable result once it is committed.
    let wanted = before + TASKS as u64;
    while seen(agents)?.acknowledged < wanted {
        if started.elapsed() > DEADLINE {
            bail!("{TASKS} durable tasks did not end within {DEADLINE:?}");
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(TASKS as f64 / started.elapsed().as_secs_f64())
}

/// The floor: the same rows written by SQLite alone, in batches as large; tasks a second.
pub(super) fn raw_commits(commits: &mut Helper) -> Result<f64> {
    let seconds: f64 = commits.ask(&TASKS.to_string())?.parse()?;
    Ok(TASKS as f64 / seconds)
}

async fn submit(channel: Channel, target: Target) -> Result<()> {
    let mut client = TaskServiceClient::new(channel);
    for _ in 0..TASKS / (CONNECTIONS * IN_FLIGHT) {
        let request = v1::SubmitTaskRequest {
            agent: AGENT.to_owned(),
            capability: CAPABILITY.to_owned(),
            input: Some(input()),
            deadline_ms: 0,
            idempotency_key: String::new(),
            context: None,
        };
        client.submit(target.request(request)?).await?;
    }
    Ok(())
}

/// What the agents have seen; an error if one of them lost its session.
pub(super) fn seen(agents: &mut Helper) -> Result<Seen> {
    let seen: Seen = serde_json::from_str(&agents.ask("seen")?)?;
    if seen.ended > 0 {
        bail!("{} agents lost their session", seen.ended);
    }
    Ok(seen)
}
