//! The product on PostgreSQL.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parallax_core::task::TaskState;
use parallax_testkit::postgres;
use parallax_testkit::world::{Call, Fixture, Serve, World};
use serde_json::json;

/// Longer than a server needs to start again, so that the task outlives it.
const WORK: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_on_postgresql_loses_neither_agents_nor_durable_tasks() -> Result<()> {
    let server = match tokio::task::spawn_blocking(postgres::shared).await? {
        Ok(server) => server,
        Err(missing) => parallax_testkit::skip!("{missing}"),
    };
    let database = server.create_database()?;
    let world = World::start_with(Serve::with_database(&database.url)).await?;
    let before = world.deploy_ready(&Fixture::named("parrot")).await?;
    let value = world
        .invoke(&Call::echo("parrot").input(json!({"n": 1})))
        .await?;
    ensure!(value.value()?["echo"] == json!({"n": 1}));

    let done = world.submit(&Call::echo("parrot").key("done")).await?;
    world.task_ended(&done.id.to_string()).await?;
    let work = json!({"after_ms": WORK.as_millis()});
    let under_way = world
        .submit(&Call::echo("parrot").key("work").input(work.clone()))
        .await?;
    let id = under_way.id.to_string();
    world
        .until("the task runs", async || {
            let task = world.task(&id).await?;
            Ok((task.state == TaskState::Running).then_some(()))
        })
        .await?;
    world.kill9_and_restart_server().await?;

    let after = world.until_ready("parrot").await?;
    let pids = [&before, &after].map(|status| status.replica_details[0].pid);
    ensure!(pids[0] == pids[1], "the replica was started anew: {pids:?}");
    let task = world.task_ended(&id).await?;
    ensure!(task.state == TaskState::Succeeded, "{task:#?}");
    let answer = task.outcome.and_then(|outcome| outcome.answer);
    ensure!(answer.context("an answer")?.value.is_some());
    let same = world
        .submit(&Call::echo("parrot").key("work").input(work))
        .await?;
    ensure!(same.id == under_way.id, "{same:#?}");
    let tables = server.sql(&database.name, "select count(*) from tasks")?;
    ensure!(tables.trim() == "2", "the tasks lie elsewhere: {tables}");
    world.end().await
}
