//! Reading and changing agents.

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::world::{World, read};

#[tokio::test]
async fn lists_are_paged() {
    let world = World::start().await;
    for name in ["one", "three", "two"] {
        world.register(name).await;
    }
    let first = world.ours.get("/api/agents?limit=2").await.json();
    let names: Vec<_> = first["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|a| &a["name"])
        .collect();
    assert_eq!(names, [&json!("one"), &json!("three")]);
    let cursor = first["next_cursor"].as_str().expect("there is more");
    let second = world
        .ours
        .get(&format!("/api/agents?limit=2&cursor={cursor}"))
        .await
        .json();
    assert_eq!(second["items"][0]["name"], "two");
    assert!(second["next_cursor"].is_null(), "{second}");
}

#[tokio::test]
async fn what_this_release_does_not_do_says_so() {
    let world = World::start().await;
    world.register("alpha").await;
    for path in ["rollback", "suspend", "resume"] {
        let answer = world
            .ours
            .post(&format!("/api/agents/alpha/{path}"), &json!({}))
            .await;
        assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED);
        assert_eq!(answer.code(), "not_implemented");
    }
    let bounds = json!({ "min": 1, "max": 3 });
    let request = world
        .ours
        .request(Method::PUT, "/api/agents/alpha/scale")
        .json(&bounds);
    assert_eq!(read(request).await.code(), "not_implemented");
}

#[tokio::test]
async fn an_agent_is_found_by_name_and_by_id() {
    let world = World::start().await;
    let id = world.register("alpha").await;
    let by_name = world.ours.get("/api/agents/alpha").await.json();
    let by_id = world.ours.get(&format!("/api/agents/{id}")).await.json();
    assert_eq!((&by_name["id"], &by_id["id"]), (&json!(id), &json!(id)));
    let status = world.ours.get("/api/agents/alpha/status").await.json();
    assert_eq!(status["replicas"]["ready"], 0, "{status}");
    let metrics = world.ours.get("/api/agents/alpha/metrics").await.json();
    assert!(
        metrics["cpu_millis"].is_null(),
        "nothing was measured: {metrics}"
    );
}

#[tokio::test]
async fn a_scale_raises_the_generation_and_is_an_event() {
    let world = World::start().await;
    world.register("alpha").await;
    let before = world.ours.get("/api/agents/alpha").await.json();
    let request = world.ours.request(Method::PUT, "/api/agents/alpha/scale");
    let scaled = read(request.json(&json!({ "replicas": 3 }))).await;
    assert_eq!(scaled.status, StatusCode::ACCEPTED, "{}", scaled.text);
    assert_eq!(scaled.json()["replicas"], 3);
    let generation = |v: &serde_json::Value| v["generation"].as_u64().expect("a number");
    assert!(generation(&scaled.json()) > generation(&before));
    let events = world.ours.get("/api/agents/alpha/events").await.json();
    let kinds: Vec<_> = events["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|e| &e["kind"])
        .collect();
    assert!(kinds.contains(&&json!("scaled")), "{events}");
}
