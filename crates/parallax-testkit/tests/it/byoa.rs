//! Agents that run elsewhere and join by themselves.

use anyhow::{Context, Result, ensure};
use parallax_api::keys::CreateKey;
use parallax_core::key::Scope;
use parallax_core::task::TaskState;
use parallax_testkit::scripted_agent::{Behaviour, Pace, ScriptedAgent};
use parallax_testkit::world::{Call, PATIENCE, World};
use serde_json::json;

async fn agent_key(world: &World) -> Result<String> {
    let key = CreateKey {
        name: "outside".to_owned(),
        scopes: vec![Scope::Agent],
        groups: Vec::new(),
        expires_in_s: None,
    };
    Ok(world.create_key(&key).await?.secret)
}

/// Dials until the server takes it back: it has only just started.
async fn come_back(world: &World, agent: &ScriptedAgent) -> Result<()> {
    world
        .until("the agent is back", async || {
            agent.reconnect().await?;
            Ok(Some(()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_agent_is_listed_and_called_like_a_hosted_one() -> Result<()> {
    let world = World::start().await?;
    let key = agent_key(&world).await?;
    let behaviour = Behaviour::default();
    let agent =
        ScriptedAgent::connect(&world.url()?, &key, "outsider", &["echo"], behaviour).await?;
    let registry = world.registry().await?;
    ensure!(
        registry.len() == 1 && registry[0].agent_name == "outsider",
        "{registry:#?}"
    );
    let call = Call::echo("outsider").input(json!({"n": 1}));
    let value = world.invoke(&call).await?.value()?;
    ensure!(value == json!({"n": 1}), "{value}");
    drop(agent);
    world
        .until("the registry is empty", async || {
            Ok(world.registry().await?.is_empty().then_some(()))
        })
        .await?;
    let problem = world.invoke(&call).await?.problem()?;
    ensure!(
        problem.code == "agent_unavailable" || problem.code == "not_found",
        "{problem:#?}"
    );
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_agents_durable_task_survives_the_server() -> Result<()> {
    let world = World::start().await?;
    let key = agent_key(&world).await?;
    let behaviour = Behaviour {
        pace: Pace::OnRelease,
        ..Behaviour::default()
    };
    let tally = behaviour.tally.clone();
    let agent =
        ScriptedAgent::connect(&world.url()?, &key, "outsider", &["echo"], behaviour).await?;
    let task = world
        .submit(&Call::echo("outsider").input(json!({"n": 2})))
        .await?;
    let id = task.id.to_string();
    ensure!(tally.started_reaches(1, PATIENCE).await);
    world.kill9_server().await?;
    agent.ended().await?;
    // Finished while no server is there: the result waits for its acknowledgement.
    agent.release().await?;
    world.start_server().await?;
    come_back(&world, &agent).await?;
    let task = world.task_ended(&id).await?;
    ensure!(task.state == TaskState::Succeeded, "{task:#?}");
    let answer = task.outcome.and_then(|outcome| outcome.answer);
    let value = answer
        .and_then(|answer| answer.value)
        .context("an answer")?;
    ensure!(value.get() == r#"{"n":2}"#, "{value}");
    ensure!(tally.of(&id).started == 1, "{:?}", tally.of(&id));
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_idempotency_key_makes_one_task() -> Result<()> {
    let world = World::start().await?;
    let key = agent_key(&world).await?;
    let behaviour = Behaviour::default();
    let tally = behaviour.tally.clone();
    let _agent =
        ScriptedAgent::connect(&world.url()?, &key, "outsider", &["echo"], behaviour).await?;
    let call = Call::echo("outsider").key("once").input(json!({"n": 3}));
    let first = world.submit(&call).await?;
    let second = world.submit(&call).await?;
    ensure!(first.id == second.id, "{first:#?}\n{second:#?}");
    world.task_ended(&first.id.to_string()).await?;
    ensure!(tally.started() == 1);
    let refused = world.submit(&call.input(json!({"n": 4}))).await;
    ensure!(refused.is_err_and(|error| format!("{error:#}").contains("idempotency_mismatch")));
    world.end().await
}
