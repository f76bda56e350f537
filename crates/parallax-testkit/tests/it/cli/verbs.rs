//! Every verb on agents that run, as programs read it.

use std::fs;

use anyhow::{Context, Result, ensure};
use parallax_testkit::world::{Fixture, PATIENCE, World};
use serde_json::{Value, json};

use super::{Following, text};

/// The answer of a command that must succeed: one JSON document a line.
async fn told(world: &World, args: &[&str]) -> Result<Vec<Value>> {
    let all = [args, &["--json"]].concat();
    let said = world.cli(all, PATIENCE).await?;
    ensure!(said.status.success(), "{args:?}: {said:?}");
    let lines = text(&said.stdout);
    let documents = lines.lines().map(serde_json::from_str);
    documents
        .collect::<Result<_, _>>()
        .with_context(|| format!("{args:?}: {lines}"))
}

/// As [`told`], of a command that answers once.
async fn one(world: &World, args: &[&str]) -> Result<Value> {
    let mut documents = told(world, args).await?;
    ensure!(documents.len() == 1, "{args:?}: {documents:#?}");
    documents.pop().context("there is one")
}

fn folder(world: &World, name: &str, fixture: &Fixture) -> Result<String> {
    let folder = world.dir().join(name);
    fixture.write_to(&folder)?;
    Ok(folder.display().to_string())
}

/// The replicas of a status that have not ended.
fn present(status: &Value) -> Vec<&Value> {
    let over = ["stopped", "failed", "lost"];
    let replicas = status["replica_details"].as_array().into_iter().flatten();
    let is_present = |it: &&Value| !over.iter().any(|phase| it["phase"] == *phase);
    replicas.filter(is_present).collect()
}

/// Deploys `polly`: dry, then without waiting, then until it is ready.
async fn deploy_polly(world: &World) -> Result<()> {
    let dir = folder(world, "source", &Fixture::named("parrot"))?;
    let deploy = ["deploy", &dir, "--name", "polly"];
    let forecast = one(world, &[&deploy[..], &["--dry-run"]].concat()).await?;
    let foreseen = (&forecast["agent"], &forecast["action"], &forecast["build"]);
    ensure!(
        foreseen == (&json!("polly"), &json!("create"), &json!("needed")),
        "{forecast:#}"
    );
    ensure!(told(world, &["agents"]).await?.is_empty(), "it was dry");

    let accepted = one(world, &[&deploy[..], &["--no-wait"]].concat()).await?;
    ensure!(accepted["agent"]["name"] == "polly", "{accepted:#}");
    ensure!(accepted["revision"]["number"] == 1, "{accepted:#}");
    let ready = one(world, &deploy).await?;
    ensure!(
        (&ready["phase"], &ready["generation"])
            == (&json!("Ready"), &accepted["agent"]["generation"]),
        "{ready:#}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_life_is_led_by_commands_that_programs_read() -> Result<()> {
    let world = World::start().await?;
    deploy_polly(&world).await?;
    let scaled = one(&world, &["scale", "polly", "2", "--wait"]).await?;
    ensure!(scaled["replicas"]["ready"] == 2, "{scaled:#}");
    let status = one(&world, &["status", "polly"]).await?;
    ensure!(present(&status).len() == 2, "{status:#}");
    ensure!(
        present(&status).iter().all(|it| it["ready"] == true),
        "{status:#}"
    );

    let listed = one(&world, &["agents", "--phase", "ready"]).await?;
    ensure!(
        listed["name"] == "polly" && listed["replicas"] == 2,
        "{listed:#}"
    );
    ensure!(
        told(&world, &["agents", "--phase", "Failed"])
            .await?
            .is_empty()
    );

    let redeployed = one(&world, &["redeploy", "polly", "--wait"]).await?;
    let revisions: Vec<_> = present(&redeployed)
        .iter()
        .map(|it| it["revision"].clone())
        .collect();
    ensure!(redeployed["phase"] == "Ready", "{redeployed:#}");
    ensure!(
        revisions.iter().filter(|it| **it == 2).count() == 2,
        "{redeployed:#}"
    );

    let host = one(&world, &["hosts"]).await?;
    ensure!(host["connected"] == true, "{host:#}");
    let zero = one(&world, &["scale", "polly", "0", "--wait"]).await?;
    ensure!(
        zero["reason"] == "ScaledToZero" && present(&zero).is_empty(),
        "{zero:#}"
    );

    let deleted = world
        .cli(["delete", "polly", "--yes", "--drain", "2s"], PATIENCE)
        .await?;
    let expected = "`polly` is being deleted: tasks have 2s to end, then its replicas stop\n";
    ensure!(text(&deleted.stdout) == expected, "{deleted:?}");
    world
        .until("it is gone", async || {
            let gone = told(&world, &["agents"]).await?.is_empty();
            Ok(gone.then_some(()))
        })
        .await?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_tasks_and_the_registry_are_read_by_programs_too() -> Result<()> {
    let world = World::start().await?;
    world.deploy_ready(&Fixture::named("parrot")).await?;
    let log = told(&world, &["logs", "parrot", "-n", "100"]).await?;
    let registered = |it: &&Value| it["type"] == "line" && it["line"] == "registered";
    ensure!(log.iter().filter(registered).count() == 1, "{log:#?}");
    let last = told(&world, &["logs", "parrot", "-n", "1"]).await?;
    ensure!(last.len() == 1, "{last:#?}");
    let build = told(&world, &["logs", "parrot", "--build"]).await?;
    let of_build = |it: &Value| {
        it["source"]
            .as_str()
            .is_some_and(|it| it.starts_with("bld_"))
    };
    ensure!(
        !build.is_empty() && build.iter().all(of_build),
        "{build:#?}"
    );

    let task = one(&world, &["invoke", "parrot", "echo", "1", "--async"]).await?;
    let id = task["id"].as_str().context("an id")?.to_owned();
    let watched = one(&world, &["tasks", "watch", &id]).await?;
    ensure!(watched["state"] == "succeeded", "{watched:#}");
    let list = ["tasks", "list", "--agent", "parrot", "--state"];
    let ended = one(&world, &[&list[..], &["succeeded"]].concat()).await?;
    ensure!(ended["id"] == *id, "{ended:#}");
    ensure!(
        told(&world, &[&list[..], &["queued"]].concat())
            .await?
            .is_empty()
    );
    ensure!(
        told(&world, &["tasks", "list", "--agent", "nobody"])
            .await?
            .is_empty()
    );

    let out = world.dir().join("changes");
    let following = Following::start(&world, &["registry", "--watch", "--json"], &out)?;
    let changes = async |count: usize| {
        let seen = world.until("the registry's changes are followed", async || {
            let text = fs::read_to_string(&out)?;
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let lines: Vec<Value> = whole
                .lines()
                .map(serde_json::from_str)
                .collect::<Result<_, _>>()?;
            Ok((lines.len() >= count).then_some(lines))
        });
        seen.await
    };
    let present = changes(3).await?;
    let kinds: Vec<_> = present.iter().map(|it| &it["type"]).collect();
    ensure!(kinds == ["resync", "upserted", "synced"], "{present:#?}");
    ensure!(
        present[1]["entry"]["agent_name"] == "parrot",
        "{present:#?}"
    );
    world.scale("parrot", 0).await?;
    let removed = world.until("its end is followed", async || {
        let all = changes(4).await?;
        Ok(all.last().filter(|it| it["type"] == "removed").cloned())
    });
    let removed = removed.await?;
    ensure!(removed["agent_name"] == "parrot", "{removed:#}");
    drop(following);
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_takes_too_long_says_what_is_and_exits_with_6() -> Result<()> {
    let world = World::start().await?;
    let dir = folder(&world, "mute", &Fixture::named("mute").mode("mute"))?;
    let said = world.cli(["deploy", &dir, "--no-wait"], PATIENCE).await?;
    ensure!(said.status.success(), "{said:?}");
    world
        .until_reason("mute", parallax_core::status::Reason::NotRegistered)
        .await?;
    let said = world
        .cli(["deploy", &dir, "--timeout", "1s"], PATIENCE)
        .await?;
    ensure!(said.status.code() == Some(6), "{said:?}");
    let words = text(&said.stderr);
    let expected =
        "what was asked of `mute` was not there within 1 s: it is Starting (NotRegistered)";
    ensure!(words.contains(expected), "{words}");
    let status = text(&world.cli(["status", "mute"], PATIENCE).await?.stdout);
    ensure!(
        status.contains("the process runs, and its agent is not connected"),
        "{status}"
    );
    world.delete("mute").await?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn down_says_stopped_when_the_replicas_are_gone_too() -> Result<()> {
    let world = World::start().await?;
    let stubborn = Fixture::named("stubborn").mode("stubborn");
    let status = world.deploy_ready(&stubborn.stop_grace_ms(1_500)).await?;
    let pid = status.replica_details[0].pid.context("it runs")?;
    let out = world.dir().join("down");
    // So short that the server must be killed, and leaves its replica.
    let _down = Following::start(&world, &["down", "--timeout", "1ms"], &out)?;
    let said = world.until("it is said", async || {
        let said = fs::read_to_string(out.with_extension("err"))?;
        Ok(said.contains("\nstopped the server at ").then_some(said))
    });
    let said = said.await?;
    let is_there = fs::exists(format!("/proc/{pid}/exe"))?;
    ensure!(!is_there, "{said}");
    ensure!(said.trim_end().ends_with(", with 1 replica"), "{said}");
    world.nothing_runs().await?;
    world.end().await
}
