//! Calls to a real agent over HTTP.

use std::time::Duration;

use parallax_core::key::Scope;
use parallax_testkit::scripted_agent::{Behaviour, Pace, Reply, ScriptedAgent};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::world::{PATIENCE, World, lines, read};

async fn agent(world: &World, behaviour: Behaviour) -> ScriptedAgent {
    let key = world
        .with_scopes("agents", &[Scope::Agent])
        .await
        .key
        .expect("it has a key");
    let connected =
        ScriptedAgent::connect(&world.server.url, &key, "echo", &["say"], behaviour).await;
    connected.expect("the key may join")
}

#[tokio::test]
async fn an_attached_call_answers_with_the_value() {
    let world = World::start().await;
    let _agent = agent(&world, Behaviour::default()).await;
    let call = json!({ "capability": "say", "input": { "text": "grüße" } });
    let answer = world.ours.post("/api/agents/echo/invoke", &call).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let answer = answer.json();
    assert_eq!(answer["value"], json!({ "text": "grüße" }));
    assert!(
        answer["task_id"]
            .as_str()
            .expect("an id")
            .starts_with("tsk_")
    );
}

#[tokio::test]
async fn failures_have_their_own_statuses() {
    let world = World::start().await;
    let reply = Reply::Failure {
        code: "model_refused".to_owned(),
        message: "no".to_owned(),
        retryable: false,
    };
    let _agent = agent(
        &world,
        Behaviour {
            reply,
            ..Behaviour::default()
        },
    )
    .await;
    let failed = world
        .ours
        .post("/api/agents/echo/invoke", &json!({ "capability": "say" }))
        .await;
    assert_eq!(
        (failed.status.as_u16(), failed.code().as_str()),
        (422, "agent_failed")
    );
    assert_eq!(failed.json()["agent_code"], "model_refused");
    let unknown = world
        .ours
        .post("/api/agents/echo/invoke", &json!({ "capability": "sing" }))
        .await;
    assert_eq!(
        (unknown.status.as_u16(), unknown.code().as_str()),
        (404, "capability_unknown")
    );
    world.register("asleep").await;
    let away = world
        .ours
        .post("/api/agents/asleep/invoke", &json!({ "capability": "say" }))
        .await;
    assert_eq!(
        (away.status.as_u16(), away.code().as_str()),
        (503, "agent_unavailable")
    );
}

#[tokio::test]
async fn a_deadline_that_passes_is_a_504() {
    let world = World::start().await;
    let _agent = agent(
        &world,
        Behaviour {
            pace: Pace::OnRelease,
            ..Behaviour::default()
        },
    )
    .await;
    let call = json!({ "capability": "say", "deadline_ms": 50 });
    let late = world.ours.post("/api/agents/echo/invoke", &call).await;
    assert_eq!(
        (late.status.as_u16(), late.code().as_str()),
        (504, "deadline_exceeded")
    );
}

#[tokio::test]
async fn a_caller_that_hangs_up_cancels_its_call() {
    let world = World::start().await;
    let agent = agent(
        &world,
        Behaviour {
            pace: Pace::OnRelease,
            ..Behaviour::default()
        },
    )
    .await;
    let request = world.ours.request(Method::POST, "/api/agents/echo/invoke");
    let mut calls = tokio::task::JoinSet::new();
    calls.spawn(read(request.json(&json!({ "capability": "say" }))));
    in_flight(&world, 1).await;
    calls.shutdown().await;
    in_flight(&world, 0).await;
    drop(agent);
}

/// Waits until the agent has so many tasks.
async fn in_flight(world: &World, wanted: u64) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let registry = world.ours.get("/api/registry").await.json();
        if registry["items"][0]["in_flight"] == wanted {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{registry}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_streamed_call_ends_with_its_answer() {
    let world = World::start().await;
    let _agent = agent(&world, Behaviour::default()).await;
    let request = world.ours.request(Method::POST, "/api/agents/echo/invoke");
    let request = request.header("accept", "text/event-stream");
    let call = json!({ "capability": "say", "input": 7 });
    let mut lines = lines(
        request
            .json(&call)
            .send()
            .await
            .expect("the server answers"),
    );
    assert_eq!(lines.until("event:").await, "event: answer");
    let data = lines.next().await.expect("data follows");
    assert!(data.contains("\"value\":7"), "{data}");
    assert_eq!(lines.next().await, None);
}

#[tokio::test]
async fn a_durable_call_is_the_same_task_for_the_same_key() {
    let world = World::start().await;
    let _agent = agent(&world, Behaviour::default()).await;
    let submit = |input: u32| {
        let request = world.ours.request(Method::POST, "/api/agents/echo/invoke");
        let request = request.header("idempotency-key", "order-1");
        read(request.json(&json!({ "capability": "say", "input": input })))
    };
    let first = submit(1).await;
    assert_eq!(first.status, StatusCode::ACCEPTED, "{}", first.text);
    let task = first.json()["id"].clone();
    assert_eq!(
        first.header("location"),
        format!("/api/tasks/{}", task.as_str().expect("an id"))
    );
    assert_eq!(submit(1).await.json()["id"], task);
    assert_eq!(submit(2).await.code(), "idempotency_mismatch");
    let mut events = world
        .ours
        .stream(&format!("{}/events", first.header("location")), "")
        .await;
    let last = events.until("\"kind\":\"succeeded\"").await;
    assert!(last.contains("\"value\":1"), "{last}");
    assert_eq!(
        events.next().await,
        None,
        "the stream ends after the last change"
    );
}
