//! The SDKs' clients against a real server: one story, told by each of them in the same words.

use anyhow::{Context, Result, ensure};
use parallax_testkit::conformance::{Language, fixtures};
use parallax_testkit::world::{Fixture, World};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn the_typescript_client_speaks_the_http_api() -> Result<()> {
    if let Some(missing) = fixtures::missing(Language::TypeScript) {
        parallax_testkit::skip!("{missing}");
    }
    story(Language::TypeScript).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_speaks_the_http_api() -> Result<()> {
    if let Some(missing) = fixtures::missing(Language::Python) {
        parallax_testkit::skip!("{missing}");
    }
    story(Language::Python).await
}

async fn story(language: Language) -> Result<()> {
    let world = World::start().await?;
    let source = world.dir().join("parrot");
    Fixture::named("parrot").write_to(&source)?;
    let agent = world.sdk_agent(language).await?;
    let wrong = world.secret_file("wrong", "plx_nonsense")?;
    let folder = source.display().to_string();
    let env = [("WRONG_KEY_FILE", wrong.as_path())];
    let mut client = world
        .sdk_client(language, "client", &[&folder], &env)
        .await?;
    client.says(&world, r#""restart""#).await?;
    world.kill9_and_restart_server().await?;
    let told = client.documents().await?;
    for (index, expected) in expected().iter().enumerate() {
        let found = told.get(index).context("the story breaks off")?;
        ensure!(found == expected, "wanted {expected}\nfound  {found}");
    }
    ensure!(told.len() == expected().len(), "{told:#?}");
    agent.stop().await?;
    world.end().await
}

fn expected() -> Vec<Value> {
    vec![
        json!({"step": "dry run", "action": "create"}),
        json!({"step": "ready", "agent": "parrot", "revision": 1, "changed": true,
            "phase": "Ready", "ready": 1}),
        json!({"step": "again", "revision": 1, "changed": false}),
        json!({"step": "hosted", "value": "hé"}),
        json!({"step": "attached", "value": {"é": [1, null]}, "confidence": 0.75, "source": "self",
            "evidence": [["note", "echoed"]]}),
        json!({"step": "stream", "told": [[1, "xxx"], [2, "xxx"], {"chunks": 2}]}),
        json!({"step": "large", "bytes": 300_000}),
        json!({"step": "context",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "tracestate": "a=b", "baggage": "c=d", "context_id": "talk"}),
        json!({"step": "refused",
            "failed": ["ApiError", "agent_failed", 422, "empty", true],
            "streamed": ["ApiError", "agent_failed", 422, "empty", false],
            "agent": ["ApiError", "not_found", 404, "", false],
            "capability": ["ApiError", "capability_unknown", 404, "", false],
            "deadline": "deadline_exceeded",
            "key": ["ApiError", "unauthenticated", 401, "", false],
            "task": ["ApiError", "not_found", 404, "", false]}),
        json!({"step": "abandoned"}),
        json!({"step": "durable", "same": true, "ended": false, "state": "succeeded",
            "value": "kept", "last": "succeeded", "told": true}),
        json!({"step": "mismatch",
            "other": ["ApiError", "idempotency_mismatch", 409, "", false]}),
        json!({"step": "failed", "state": "failed", "code": "agent_failed", "agent_code": "empty",
            "message": "nothing there"}),
        json!({"step": "asked", "value": {"answer": 42}}),
        json!({"step": "heard", "partials": [[1, "xxx"], [2, "xxx"]], "progress": true}),
        json!({"step": "cancelled", "asked": true, "state": "cancelled"}),
        json!({"step": "restart"}),
        json!({"step": "survived", "state": "succeeded"}),
        json!({"step": "watched", "names": ["conformance-fixture", "parrot"]}),
        json!({"step": "listed", "agents": ["parrot"], "tasks": [["slow", true], ["slow", true],
            ["stream", true], ["ask", true], ["fail", true], ["echo", true]]}),
        json!({"step": "deleted"}),
    ]
}
