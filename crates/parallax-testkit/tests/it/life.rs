//! The main job: an agent from its deployment to its end.

use anyhow::{Context, Result, ensure};
use parallax_core::status::Reason;
use parallax_testkit::world::{Call, CallEnd, Fixture, PATIENCE, World, processes_of};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_deployed_called_scaled_read_and_deleted() -> Result<()> {
    let world = World::start().await?;
    let status = world.deploy_ready(&Fixture::named("parrot")).await?;
    ensure!(status.replica_details.len() == 1, "{status:#?}");
    let call = Call::echo("parrot").input(json!({"word": "grüß dich"}));
    let value = world.invoke(&call).await?.value()?;
    ensure!(value["echo"] == json!({"word": "grüß dich"}), "{value}");

    world.scale("parrot", 3).await?;
    let status = world.until_ready("parrot").await?;
    ensure!(status.status.replicas.ready == 3, "{status:#?}");
    ensure!(world.registry().await?.len() == 3);
    world.scale("parrot", 1).await?;
    world.until_ready("parrot").await?;
    world
        .until("the registry has one entry", async || {
            Ok((world.registry().await?.len() == 1).then_some(()))
        })
        .await?;

    let log = world.logs("parrot").await?;
    ensure!(log.iter().any(|line| line.line == "registered"), "{log:#?}");
    world.delete("parrot").await?;
    ensure!(world.registry().await?.is_empty());
    let agents = processes_of(&world.data_dir().join("host/replicas"));
    ensure!(agents.is_empty(), "deleted, but running: {agents:#?}");
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_source_is_built_once() -> Result<()> {
    let world = World::start().await?;
    let fixture = Fixture::named("parrot").build_script("console.log('built')");
    let first = world.deploy(&fixture).await?;
    let before = world.until_ready("parrot").await?;
    let log = world.build_log("parrot").await?;
    ensure!(log.iter().any(|line| line.line == "built"), "{log:#?}");

    let same = world.deploy(&fixture).await?;
    ensure!(
        !same.changed && same.revision == first.revision,
        "{same:#?}"
    );
    let after = world.until_ready("parrot").await?;
    ensure!(after.replica_details[0].pid == before.replica_details[0].pid);

    let other_env = world.deploy(&fixture.clone().version("b")).await?;
    ensure!(other_env.changed && other_env.revision != first.revision);
    let after = world.until_ready("parrot").await?;
    ensure!(after.builds.len() == 1, "{:#?}", after.builds);
    let value = world.invoke(&Call::echo("parrot")).await?.value()?;
    ensure!(value["version"] == "b", "{value}");
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_fails_no_call() -> Result<()> {
    const CALLERS: usize = 4;
    let world = World::start().await?;
    world
        .deploy_ready(&Fixture::named("parrot").replicas(2).version("a"))
        .await?;
    let world = std::sync::Arc::new(world);
    let stop = CancellationToken::new();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (world, stop) = (world.clone(), stop.clone());
        callers.spawn(async move {
            let mut versions = Vec::new();
            while !stop.is_cancelled() {
                let call = Call::echo("parrot").input(json!({"after_ms": 20}));
                versions.push(world.invoke(&call).await?.value()?["version"].clone());
            }
            anyhow::Ok(versions)
        });
    }
    for version in ["b", "c"] {
        world
            .deploy(&Fixture::named("parrot").replicas(2).version(version))
            .await?;
        world.until_ready("parrot").await?;
    }
    stop.cancel();
    let mut calls = 0;
    while let Some(versions) = callers.join_next().await {
        let versions = versions?.context("a call failed during the update")?;
        ensure!(
            versions.last().is_some_and(|last| last != "a"),
            "{versions:?}"
        );
        calls += versions.len();
    }
    ensure!(calls > 0);
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_update_leaves_the_old_revision_at_work() -> Result<()> {
    let world = World::start().await?;
    world
        .deploy_ready(&Fixture::named("parrot").version("a"))
        .await?;
    world
        .deploy(&Fixture::named("parrot").version("b").mode("crash"))
        .await?;
    let crashed = world.until_reason("parrot", Reason::CrashLoop).await?;
    ensure!(crashed.status.replicas.ready == 1, "{crashed:#?}");
    let CallEnd::Answer(_) = world.invoke(&Call::echo("parrot")).await? else {
        anyhow::bail!("nobody answers although the old revision works");
    };
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_deploys_a_folder_and_calls_it() -> Result<()> {
    let world = World::start().await?;
    let folder = world.dir().join("source");
    Fixture::named("parrot").replicas(2).write_to(&folder)?;
    let folder = folder.to_string_lossy().into_owned();
    let deployed = world.cli(["deploy", &folder, "--wait"], PATIENCE).await?;
    ensure!(deployed.status.success(), "{deployed:?}");
    let called = world
        .cli(["invoke", "parrot", "echo", r#"{"n":1}"#], PATIENCE)
        .await?;
    ensure!(called.status.success(), "{called:?}");
    let value: serde_json::Value = serde_json::from_slice(&called.stdout)?;
    ensure!(value["echo"] == json!({"n": 1}), "{value}");
    let missing = world.cli(["status", "nobody"], PATIENCE).await?;
    ensure!(missing.status.code() == Some(3), "{missing:?}");
    let deleted = world.cli(["delete", "parrot", "--yes"], PATIENCE).await?;
    ensure!(deleted.status.success(), "{deleted:?}");
    world.end().await
}
