//! Callers that go on while things are killed, and what became of their calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parallax_core::task::TaskState;
use parallax_testkit::world::{Call, CallEnd, World};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Between two calls of a caller whose server is away.
const BREATH: Duration = Duration::from_millis(30);

/// Attached and durable callers of one agent.
pub(super) struct Load {
    agent: String,
    stop: CancellationToken,
    attached: JoinSet<Result<Told>>,
    durable: JoinSet<Vec<String>>,
}

/// What attached callers were told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    pub(super) answers: u32,
    pub(super) problems: u32,
    pub(super) broken: u32,
}

impl Load {
    /// Starts callers.
    pub(super) fn start(world: &Arc<World>, agent: &str) -> Self {
        let stop = CancellationToken::new();
        let mut attached = JoinSet::new();
        let mut durable = JoinSet::new();
        for after_ms in [5, 60] {
            let call = Call::echo(agent).input(json!({"after_ms": after_ms}));
            attached.spawn(attached_caller(world.clone(), call.clone(), stop.clone()));
            durable.spawn(durable_caller(world.clone(), call, stop.clone()));
        }
        Self {
            agent: agent.to_owned(),
            stop,
            attached,
            durable,
        }
    }

    /// Ends the callers and shows what was promised: every attached one was told, no accepted task
    /// was lost, and none was run twice.
    pub(super) async fn check(mut self, world: &World) -> Result<Told> {
        self.stop.cancel();
        let mut told = Told::default();
        while let Some(caller) = self.attached.join_next().await {
            let caller = caller?.context("an attached caller")?;
            told.answers += caller.answers;
            told.problems += caller.problems;
            told.broken += caller.broken;
        }
        let mut accepted = Vec::new();
        while let Some(caller) = self.durable.join_next().await {
            accepted.extend(caller?);
        }
        ensure!(!accepted.is_empty(), "no durable task was accepted");
        for id in &accepted {
            let task = world.task_ended(id).await?;
            ensure!(
                task.state == TaskState::Succeeded,
                "an accepted task ended otherwise: {task:#?}\n{}",
                world.story().await
            );
        }
        world
            .until("the logs tell of every task once", async || {
                let ran = world.ran(&self.agent).await?;
                ran_once(&accepted, &ran).map(Some)
            })
            .await?;
        Ok(told)
    }
}

/// A task whose acceptance did not arrive may be there, too: it may be run, but not twice.
fn ran_once(accepted: &[String], ran: &BTreeMap<String, (u32, u32)>) -> Result<()> {
    for (id, (starts, ends)) in ran {
        ensure!(
            *starts == 1 && *ends <= 1,
            "task {id} was started {starts} times and ended {ends} times"
        );
    }
    for id in accepted {
        let counts = ran.get(id);
        ensure!(
            counts == Some(&(1, 1)),
            "task {id} succeeded, but its agent has run it {counts:?} times"
        );
    }
    Ok(())
}

async fn attached_caller(world: Arc<World>, call: Call, stop: CancellationToken) -> Result<Told> {
    let mut told = Told::default();
    while !stop.is_cancelled() {
        match world.invoke(&call).await? {
            CallEnd::Answer(_) => told.answers += 1,
            CallEnd::Problem(problem) => {
                ensure!(
                    problem.code != "internal" && problem.code != "deadline_exceeded",
                    "{problem:#?}"
                );
                told.problems += 1;
                tokio::time::sleep(BREATH).await;
            }
            CallEnd::Broken(error) => {
                ensure!(!error.is_timeout(), "a caller was not told: {error:#?}");
                told.broken += 1;
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    Ok(told)
}

/// Answers the tasks that were accepted: those whose 202 arrived.
async fn durable_caller(world: Arc<World>, call: Call, stop: CancellationToken) -> Vec<String> {
    let mut accepted = Vec::new();
    while !stop.is_cancelled() {
        if let Ok(task) = world.submit(&call).await {
            accepted.push(task.id.to_string());
        }
        tokio::time::sleep(BREATH).await;
    }
    accepted
}
