//! What a host keeps is removed under it.

use std::fs;

use anyhow::{Context, Result, ensure};
use parallax_testkit::world::{Call, Fixture, World, processes_of};
use rustix::process::{Pid, Signal, kill_process};

#[tokio::test(flavor = "multi_thread")]
async fn prepared_files_that_are_gone_are_made_again_when_they_are_needed() -> Result<()> {
    let world = World::start().await?;
    world.deploy_ready(&Fixture::named("parrot")).await?;
    fs::remove_dir_all(world.data_dir().join("host/builds"))?;
    world.scale("parrot", 3).await?;
    let status = world.until_ready("parrot").await?;
    ensure!(status.replica_details.len() >= 3, "{status:#?}");
    fs::remove_dir_all(world.data_dir().join("host/builds"))?;
    // The same build again, in another revision.
    let next = Fixture::named("parrot").version("b");
    world.deploy_ready(&next).await?;
    let value = world.invoke(&Call::echo("parrot")).await?.value()?;
    ensure!(value["version"] == "b", "{value}");
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_lost_its_folder_runs_again_what_it_ran() -> Result<()> {
    let world = World::start().await?;
    for name in ["parrot", "starling"] {
        world
            .deploy_ready(&Fixture::named(name).replicas(2))
            .await?;
    }
    for round in 1..=3 {
        world.kill9_server().await?;
        for process in processes_of(&world.data_dir()) {
            let pid = Pid::from_raw(i32::try_from(process.pid)?).context("a process number")?;
            // The end of its shim may have ended it.
            let _ = kill_process(pid, Signal::KILL);
        }
        fs::remove_dir_all(world.data_dir().join("host"))?;
        world.start_server().await?;
        for name in ["parrot", "starling"] {
            // `Ready` may be carried over from before; an answer is not.
            let ready = |status: &parallax_api::agents::StatusView| {
                status.replica_details.iter().filter(|it| it.ready).count() == 2
            };
            let again = world.until_status("both replicas serve", name, ready);
            again.await.with_context(|| format!("round {round}"))?;
            world.invoke(&Call::echo(name)).await?.value()?;
        }
    }
    world.end().await
}
