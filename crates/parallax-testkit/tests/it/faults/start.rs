//! Agents that do not do what agents should.

use anyhow::{Context, Result, ensure};
use parallax_core::status::Reason;
use parallax_testkit::world::{Call, Fixture, World, is_full};

/// Of the huge line: its full size takes a while.
const FLOOD_BYTES: u64 = 16 << 20;
const FULL_FLOOD_BYTES: u64 = 1 << 30;

#[tokio::test(flavor = "multi_thread")]
async fn a_start_command_that_ends_at_once_is_named_with_its_last_words() -> Result<()> {
    let world = World::start().await?;
    world.deploy(&Fixture::named("brief").mode("exit")).await?;
    world
        .deploy(&Fixture::named("broken").mode("crash"))
        .await?;
    let brief = world.until_reason("brief", Reason::ExitedEarly).await?;
    ensure!(brief.status.message.contains("nothing to do"), "{brief:#?}");
    let broken = world.until_reason("broken", Reason::CrashLoop).await?;
    let message = &broken.status.message;
    ensure!(
        message.contains("cannot go on") && message.contains('3'),
        "{broken:#?}"
    );
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_never_registers_is_never_ready() -> Result<()> {
    let world = World::start().await?;
    world.deploy(&Fixture::named("mute").mode("mute")).await?;
    let status = world.until_reason("mute", Reason::NotRegistered).await?;
    ensure!(status.status.replicas.ready == 0, "{status:#?}");
    let problem = world.invoke(&Call::echo("mute")).await?.problem()?;
    ensure!(problem.code == "agent_unavailable", "{problem:#?}");
    world.delete("mute").await?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_ignores_sigterm_is_killed_after_its_grace() -> Result<()> {
    let world = World::start().await?;
    let stubborn = Fixture::named("stubborn")
        .mode("stubborn")
        .stop_grace_ms(500);
    world.deploy_ready(&stubborn.replicas(2)).await?;
    world.scale("stubborn", 1).await?;
    world.until_ready("stubborn").await?;
    let status = world.status("stubborn").await?;
    let killed = status.replica_details.iter().any(|replica| {
        let signal = replica.exit.as_ref().and_then(|exit| exit.signal);
        signal == Some(9)
    });
    ensure!(killed, "{status:#?}");
    let log = world.logs("stubborn").await?;
    ensure!(
        log.iter().any(|line| line.line == "SIGTERM is ignored"),
        "{log:#?}"
    );
    world.delete("stubborn").await?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_hurts_only_itself() -> Result<()> {
    let world = World::start().await?;
    world.deploy_ready(&Fixture::named("neighbour")).await?;
    let script = "echo begins; bomb() { bomb | bomb & }; bomb; sleep 1000";
    let mut bomb = Fixture::named("bomb").start(&["/bin/sh", "-c", script]);
    bomb.spec.resources.pids = Some(48);
    world.deploy(&bomb).await?;
    world
        .until("the bomb has gone off", async || {
            let log = world.logs("bomb").await?;
            Ok(log
                .iter()
                .any(|line| line.line.contains("ork"))
                .then_some(()))
        })
        .await?;
    world.invoke(&Call::echo("neighbour")).await?.value()?;
    world.delete("bomb").await?;
    let left = parallax_testkit::world::processes_of(&world.data_dir().join("host/replicas"));
    ensure!(
        !left.iter().any(|process| process.command.contains("bomb")),
        "{left:#?}"
    );
    world.invoke(&Call::echo("neighbour")).await?.value()?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_line_is_kept_in_bounds_and_what_follows_it_is_there() -> Result<()> {
    let world = World::start().await?;
    let bytes = if is_full() {
        FULL_FLOOD_BYTES
    } else {
        FLOOD_BYTES
    };
    world
        .deploy_ready(&Fixture::named("flood").flooding(bytes))
        .await?;
    let log = world
        .until("what follows the line is there", async || {
            let log = world.logs("flood").await?;
            let after = log.iter().any(|line| line.line == "registered");
            Ok(after.then_some(log))
        })
        .await?;
    let position = |text: &str| {
        let found = log.iter().position(|line| line.line == text);
        found.with_context(|| format!("no line `{text}`"))
    };
    ensure!(position("the line has ended")? < position("registered")?);
    let kept: usize = log.iter().map(|line| line.line.len()).sum();
    if !is_full() {
        ensure!(kept as u64 >= bytes, "{kept} bytes of {bytes} are kept");
    }
    let ended = log.iter().find(|line| line.line.ends_with('!'));
    ensure!(
        ended.is_some_and(|line| !line.partial),
        "the line's end is marked"
    );
    world.end().await
}
