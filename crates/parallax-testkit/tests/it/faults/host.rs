//! kill -9 of a separate host at random points.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use parallax_testkit::world::{Fixture, SeparateHost, Serve, World, seeds};

use super::chance::Chance;
use super::load::Load;
use super::server::what_runs_is_what_is_wanted;

const HOST: &str = "far";
const DEPLOY: Duration = Duration::from_millis(2500);
const CALLS: Duration = Duration::from_millis(600);
const SCALE: Duration = Duration::from_millis(900);
const AT_ONCE: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_host_loses_nothing_of_a_deploy_a_call_or_a_scale() -> Result<()> {
    stream::iter(seeds())
        .map(|seed| async move { survives(seed).await.with_context(|| format!("seed {seed}")) })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn survives(seed: u64) -> Result<()> {
    let mut chance = Chance::of(seed);
    let world = Arc::new(World::start_with(Serve::without_host()).await?);
    let host = world.separate_host(HOST).await?;
    let steady = Fixture::named("steady").replicas(2).ticking(15);
    world.deploy_ready(&steady).await?;
    let load = Load::start(&world, "steady");

    world.deploy(&Fixture::named("late")).await?;
    let host = kill(&world, host, &mut chance, DEPLOY).await?;
    let host = kill(&world, host, &mut chance, CALLS).await?;
    let count = u32::try_from(1 + chance.below(3))?;
    world.scale("steady", count).await?;
    let host = kill(&world, host, &mut chance, SCALE).await?;

    let told = load.check(&world).await?;
    ensure!(told.answers > 0 && told.broken == 0, "{told:?}");
    what_runs_is_what_is_wanted(&world, &[("steady", count), ("late", 1)]).await?;
    world.no_log_byte_is_lost("steady").await?;
    world.end_host(host).await?;
    world.end().await
}

async fn kill(
    world: &World,
    host: SeparateHost,
    chance: &mut Chance,
    at_most: Duration,
) -> Result<SeparateHost> {
    chance.moment(at_most).await;
    host.kill9().await?;
    world.restart_host(HOST).await
}
