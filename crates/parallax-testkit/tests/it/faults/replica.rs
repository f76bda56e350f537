//! kill -9 of a replica in the middle of a task, and of a shim.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parallax_api::agents::{ReplicaView, StatusView};
use parallax_core::replica::ReplicaPhase;
use parallax_core::task::TaskState;
use parallax_testkit::world::{Call, Fixture, World, processes_of};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

fn kill(pid: u32) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("a process number")?;
    kill_process(pid, Signal::KILL).context("it runs")
}

fn only(status: &StatusView) -> Result<&ReplicaView> {
    status.replica_details.first().context("a replica")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_fails_its_call_with_a_reason_and_touches_no_other() -> Result<()> {
    let world = World::start().await?;
    world.deploy_ready(&Fixture::named("mortal")).await?;
    let before = world.deploy_ready(&Fixture::named("neighbour")).await?;
    let slow = Call::echo("neighbour").input(json!({"after_ms": 1500}));
    let deadly = Call::echo("mortal").input(json!({"die_attempts": 1}));
    let (neighbour, died) = tokio::join!(world.invoke(&slow), world.invoke(&deadly));
    let problem = died?.problem()?;
    ensure!(problem.code == "agent_lost", "{problem:#?}");
    neighbour?.value()?;

    let after = world.until_ready("mortal").await?;
    let replica = only(&after)?;
    ensure!(replica.incarnation == 2, "{replica:#?}");
    let told = format!("{:?}", world.events_so_far("mortal").await?);
    ensure!(
        told.contains("signal 9"),
        "nobody was told of the end: {told}"
    );
    world.invoke(&Call::echo("mortal")).await?.value()?;
    let untouched = world.until_ready("neighbour").await?;
    ensure!(only(&untouched)?.pid == only(&before)?.pid);
    ensure!(only(&untouched)?.restarts == 0);
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_task_of_a_killed_replica_is_retried_only_if_idempotent() -> Result<()> {
    let world = World::start().await?;
    world
        .deploy_ready(&Fixture::named("mortal").replicas(2))
        .await?;
    let input = json!({"die_attempts": 1});
    let again = world
        .submit(&Call::again("mortal").input(input.clone()))
        .await?;
    let again = world.task_ended(&again.id.to_string()).await?;
    ensure!(
        again.state == TaskState::Succeeded && again.attempt == 2,
        "{again:#?}"
    );
    world.until_ready("mortal").await?;
    let once = world.submit(&Call::echo("mortal").input(input)).await?;
    let once = world.task_ended(&once.id.to_string()).await?;
    ensure!(
        once.state == TaskState::Lost && once.attempt == 1,
        "{once:#?}"
    );
    let ran = world.ran("mortal").await?;
    ensure!(ran.get(&once.id.to_string()) == Some(&(1, 0)), "{ran:?}");
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_shim_was_killed_is_replaced_and_leaves_nothing() -> Result<()> {
    let world = World::start().await?;
    let before = world
        .deploy_ready(&Fixture::named("mortal").ticking(20))
        .await?;
    let before = only(&before)?;
    let shims = processes_of(&world.data_dir().join("host/replicas"));
    let shim = shims
        .iter()
        .find(|process| {
            process.command.contains(" shim ") && process.command.contains(&before.id.to_string())
        })
        .with_context(|| format!("a shim among {shims:#?}"))?;
    kill(shim.pid)?;
    let after = world
        .until_status("the agent runs under another shim", "mortal", |status| {
            only(status).is_ok_and(|replica| {
                replica.ready
                    && (replica.id, replica.incarnation) != (before.id, before.incarnation)
            })
        })
        .await?;
    ensure!(
        after
            .replica_details
            .iter()
            .filter(|replica| replica.phase == ReplicaPhase::Running)
            .count()
            == 1
    );
    let orphan = before.pid.context("it ran")?;
    world
        .until("the first process is gone", async || {
            let all = processes_of(world.dir());
            Ok((!all.iter().any(|process| process.pid == orphan)).then_some(()))
        })
        .await?;
    let told = format!("{:?}", world.events_so_far("mortal").await?);
    ensure!(told.contains("ShimLost"), "nobody was told: {told}");
    let call = Call::echo("mortal").deadline(Duration::from_secs(30));
    world.invoke(&call).await?.value()?;
    world.end().await
}
