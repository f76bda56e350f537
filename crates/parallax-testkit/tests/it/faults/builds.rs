//! Builds that fail, hang, or are not wanted any more.

use anyhow::{Result, ensure};
use parallax_core::build::BuildPhase;
use parallax_core::status::{Phase, Reason};
use parallax_testkit::world::{Call, Fixture, Serve, World, processes_of};

const HANGS: &str = "console.log('hanging'); setInterval(() => {}, 1000)";

async fn until_it_hangs(world: &World, agent: &str) -> Result<()> {
    world
        .until("the build hangs", async || {
            let log = world.build_log(agent).await?;
            Ok(log.iter().any(|line| line.line == "hanging").then_some(()))
        })
        .await
}

async fn no_build_runs(world: &World) -> Result<()> {
    world
        .until("no step of a build is left", async || {
            let left = processes_of(&world.data_dir().join("host/builds"));
            // Replicas run in a build's folder, too.
            let left = left
                .iter()
                .find(|process| process.command.contains("build.js"));
            Ok(left.is_none().then_some(()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_build_says_what_failed_and_how() -> Result<()> {
    let world = World::start().await?;
    let script = "console.error('no such module'); process.exit(7)";
    world
        .deploy(&Fixture::named("broken").build_script(script))
        .await?;
    let status = world.until_reason("broken", Reason::BuildFailed).await?;
    ensure!(status.status.phase == Phase::Failed, "{status:#?}");
    ensure!(status.status.message.contains('7'), "{status:#?}");
    let log = world.build_log("broken").await?;
    ensure!(
        log.iter().any(|line| line.line == "no such module"),
        "{log:#?}"
    );
    world
        .deploy_ready(&Fixture::named("broken").build_script("console.log('mended')"))
        .await?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_build_is_cancelled_by_what_replaces_it() -> Result<()> {
    let world = World::start().await?;
    world
        .deploy_ready(&Fixture::named("parrot").version("a"))
        .await?;
    world
        .deploy(&Fixture::named("parrot").build_script(HANGS))
        .await?;
    until_it_hangs(&world, "parrot").await?;
    let value = world.invoke(&Call::echo("parrot")).await?.value()?;
    ensure!(value["version"] == "a", "{value}");
    world.deploy(&Fixture::named("parrot").version("b")).await?;
    world.until_ready("parrot").await?;
    let value = world.invoke(&Call::echo("parrot")).await?.value()?;
    ensure!(value["version"] == "b", "{value}");
    no_build_runs(&world).await?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_build_is_ended_by_the_time_it_may_take() -> Result<()> {
    let serve = Serve {
        args: ["--build-timeout", "3s"].map(str::to_owned).to_vec(),
        ..Serve::default()
    };
    let world = World::start_with(serve).await?;
    world
        .deploy(&Fixture::named("parrot").build_script(HANGS))
        .await?;
    let status = world.until_reason("parrot", Reason::BuildTimedOut).await?;
    ensure!(status.status.phase == Phase::Failed, "{status:#?}");
    // The step, why it ended, and what it said last.
    for words in ["npm run build", "deadline", "hanging"] {
        ensure!(status.status.message.contains(words), "{status:#?}");
    }
    no_build_runs(&world).await?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_agents_build_is_cancelled() -> Result<()> {
    let world = World::start().await?;
    world
        .deploy(&Fixture::named("parrot").build_script(HANGS))
        .await?;
    until_it_hangs(&world, "parrot").await?;
    world.delete("parrot").await?;
    no_build_runs(&world).await?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_its_server_did_not_survive_is_made_all_the_same() -> Result<()> {
    let world = World::start().await?;
    let slow = "console.log('hanging'); setTimeout(() => console.log('done'), 1500)";
    world
        .deploy(&Fixture::named("parrot").build_script(slow))
        .await?;
    until_it_hangs(&world, "parrot").await?;
    world.kill9_and_restart_server().await?;
    let status = world.until_ready("parrot").await?;
    ensure!(
        status
            .builds
            .iter()
            .any(|build| build.phase == BuildPhase::Succeeded),
        "{status:#?}"
    );
    no_build_runs(&world).await?;
    world.end().await
}
