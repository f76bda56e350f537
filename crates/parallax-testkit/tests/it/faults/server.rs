//! kill -9 of the server at random points.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use parallax_testkit::world::{Fixture, World, processes_of, seeds};

use super::chance::Chance;
use super::load::Load;

/// Long enough that the kill falls before, into and after what it is aimed at.
const DEPLOY: Duration = Duration::from_millis(2500);
const CALLS: Duration = Duration::from_millis(600);
const SCALE: Duration = Duration::from_millis(900);
/// Worlds at a time: each keeps a processor busy half of its time.
const AT_ONCE: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_nothing_of_a_deploy_a_call_or_a_scale() -> Result<()> {
    stream::iter(seeds())
        .map(|seed| async move { survives(seed).await.with_context(|| format!("seed {seed}")) })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn survives(seed: u64) -> Result<()> {
    let mut chance = Chance::of(seed);
    let world = Arc::new(World::start().await?);
    let steady = Fixture::named("steady").replicas(2).ticking(15);
    world.deploy_ready(&steady).await?;
    let load = Load::start(&world, "steady");

    // The deploy's answer may be lost with the server. Whoever asks again gets what is there.
    let late = Fixture::named("late");
    let deploying = world.deploy(&late);
    let killing = kill(&world, &mut chance, DEPLOY);
    let (deployed, killed) = tokio::join!(deploying, killing);
    killed?;
    if deployed.is_err() {
        world.deploy(&late).await?;
    }
    kill(&world, &mut chance, CALLS).await?;
    let count = u32::try_from(1 + chance.below(3))?;
    let (scaled, killed) = tokio::join!(
        world.scale("steady", count),
        kill(&world, &mut chance, SCALE)
    );
    killed?;
    if scaled.is_err() {
        world.scale("steady", count).await?;
    }
    let told = load.check(&world).await?;
    ensure!(told.answers > 0, "nobody was answered: {told:?}");
    what_runs_is_what_is_wanted(&world, &[("steady", count), ("late", 1)]).await?;
    world.no_log_byte_is_lost("steady").await?;
    world.end().await
}

async fn kill(world: &World, chance: &mut Chance, at_most: Duration) -> Result<()> {
    chance.moment(at_most).await;
    world.kill9_and_restart_server().await
}

/// Desired is observed, in the status and in the list of processes.
pub(super) async fn what_runs_is_what_is_wanted(
    world: &World,
    wanted: &[(&str, u32)],
) -> Result<()> {
    let mut pids = Vec::new();
    for (agent, count) in wanted {
        let status = world.until_ready(agent).await?;
        ensure!(status.status.replicas.ready == *count, "{status:#?}");
        let running = status
            .replica_details
            .iter()
            .filter(|replica| replica.ready);
        pids.extend(running.filter_map(|replica| replica.pid));
    }
    pids.sort_unstable();
    world
        .until("the processes are those of the status", async || {
            let all = processes_of(world.dir());
            let shims: Vec<_> = all
                .iter()
                .filter(|it| it.command.contains(" shim "))
                .collect();
            // One for each, and none of a build or of a process that has ended.
            ensure!(shims.len() == pids.len(), "for {pids:?}: {shims:#?}");
            let agents = all.iter().filter(|it| it.command.contains(" main.js"));
            let mut found: Vec<u32> = agents.map(|process| process.pid).collect();
            found.sort_unstable();
            ensure!(found == pids, "wanted {pids:?}, found {found:?}");
            Ok(Some(()))
        })
        .await
}
