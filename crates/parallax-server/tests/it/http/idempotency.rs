//! `Idempotency-Key`.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::world::{Answer, World, archive, form, read};

async fn send(world: &World, method: Method, path: &str, body: &Value, key: &str) -> Answer {
    let request = world
        .ours
        .request(method, path)
        .json(body)
        .header("idempotency-key", key);
    read(request).await
}

#[tokio::test]
async fn the_same_request_gets_the_same_answer_and_another_one_is_refused() {
    let world = World::start().await;
    world.register("alpha").await;
    let scale = |n: u32| json!({ "replicas": n });
    let path = "/api/agents/alpha/scale";
    let first = send(&world, Method::PUT, path, &scale(2), "k1").await;
    let again = send(&world, Method::PUT, path, &scale(2), "k1").await;
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    assert_eq!(again.header("idempotency-replayed"), "true");
    let other = send(&world, Method::PUT, path, &scale(3), "k1").await;
    assert_eq!(other.code(), "idempotency_mismatch");
    let fresh = send(&world, Method::PUT, path, &scale(3), "k2").await;
    assert_eq!(fresh.json()["replicas"], 3, "{}", fresh.text);
}

#[tokio::test]
async fn requests_at_once_with_one_key_do_the_work_once() {
    let world = World::start().await;
    world.register("alpha").await;
    let before = world.ours.get("/api/agents/alpha").await.json();
    let body = json!({ "replicas": 5 });
    let calls = (0..8).map(|_| send(&world, Method::PUT, "/api/agents/alpha/scale", &body, "k"));
    let answers = futures::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| answer.text == answers[0].text));
    let after = world.ours.get("/api/agents/alpha").await.json();
    let generation = |agent: &Value| agent["generation"].as_u64().expect("a number");
    assert_eq!(generation(&after), generation(&before) + 1);
}

#[tokio::test]
async fn a_repeated_upload_is_recognised_by_its_content() {
    let world = World::start().await;
    let upload = || {
        let request = world.ours.request(Method::POST, "/api/agents/deploy");
        let request = request.header("idempotency-key", "up");
        read(request.multipart(form("alpha", archive("print()"))))
    };
    let first = upload().await;
    let again = upload().await;
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    assert_eq!(again.header("location"), first.header("location"));
    assert!(!again.header("location").is_empty());
}

#[tokio::test]
async fn a_secret_is_shown_once_and_never_kept() {
    let world = World::start().await;
    let body = json!({ "name": "ci", "scopes": ["read"] });
    let first = send(&world, Method::POST, "/api/keys", &body, "k").await;
    assert_eq!(first.status, StatusCode::CREATED);
    let secret = first.json()["secret"]
        .as_str()
        .expect("it is shown")
        .to_owned();
    let again = send(&world, Method::POST, "/api/keys", &body, "k").await;
    assert_eq!(again.code(), "conflict", "{}", again.text);
    let keys = world.ours.get("/api/keys").await;
    assert!(!keys.text.contains(&secret) && !again.text.contains(&secret));
    let mut tx = world
        .app()
        .store
        .read(world.server.tenant)
        .await
        .expect("a transaction");
    let now = world.app().clock.now();
    let kept = parallax_store::idempotency::get(&mut tx, "k", "POST /api/keys", now).await;
    let kept = kept.expect("the store answers").expect("the key is known");
    assert!(kept.body.is_empty(), "a secret was written to the database");
}

#[tokio::test]
async fn a_malformed_key_is_refused() {
    let world = World::start().await;
    let long = "k".repeat(256);
    for key in ["", "a b", long.as_str()] {
        let answer = send(&world, Method::POST, "/api/hosts/token", &json!({}), key).await;
        assert_eq!(answer.code(), "invalid_request", "{key}");
    }
}
