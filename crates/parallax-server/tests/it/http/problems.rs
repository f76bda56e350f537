//! Refusals that a person can act on.

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::world::{World, read};

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let world = World::start().await;
    let nowhere = world.ours.get("/api/nowhere").await;
    assert_eq!(
        (nowhere.status, nowhere.code().as_str()),
        (StatusCode::NOT_FOUND, "not_found")
    );
    let wrong = world.ours.delete("/api/agents").await;
    assert_eq!(
        (wrong.status, wrong.code().as_str()),
        (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed")
    );
    let allowed = wrong.headers.get("allow").expect("HTTP asks for it");
    assert!(
        allowed.to_str().expect("ASCII").contains("GET"),
        "{allowed:?}"
    );
    let absent = world.ours.get("/api/agents/absent/status").await;
    assert_eq!(absent.code(), "not_found");
}

#[tokio::test]
async fn malformed_requests_name_what_is_wrong() {
    let world = World::start().await;
    let unknown = world.ours.get("/api/agents?limt=3").await;
    assert_eq!(unknown.code(), "invalid_request");
    assert!(unknown.text.contains("limt"), "{}", unknown.text);
    let limit = world.ours.get("/api/tasks?limit=0").await;
    assert!(
        limit.text.contains("`limit` must be 1 to 500"),
        "{}",
        limit.text
    );
    let typo = world
        .ours
        .post("/api/keys", &json!({ "name": "a", "scops": [] }))
        .await;
    assert!(typo.text.contains("scops"), "{}", typo.text);
    let plain = world.ours.request(Method::POST, "/api/keys").body("{}");
    assert!(read(plain).await.text.contains("application/json"));
    let id = world.ours.get("/api/tasks/tsk_1").await;
    assert_eq!(id.code(), "invalid_request");
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let world = World::start().await;
    let body = json!({ "name": "a".repeat(2 * 1024 * 1024), "scopes": ["read"] });
    let answer = world.ours.post("/api/keys", &body).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (StatusCode::PAYLOAD_TOO_LARGE, "too_large")
    );
}

#[tokio::test]
async fn a_foreign_page_may_not_change_anything() {
    let world = World::start().await;
    let request = world.ours.request(Method::POST, "/api/hosts/token");
    let answer = read(request.header("origin", "https://evil.example")).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (StatusCode::FORBIDDEN, "forbidden")
    );
    let request = world.ours.request(Method::POST, "/api/hosts/token");
    let answer = read(request.header("origin", &world.server.url)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
}

#[tokio::test]
async fn a_request_keeps_the_callers_id() {
    let world = World::start().await;
    let request = world.ours.request(Method::GET, "/api/agents/absent");
    let answer = read(request.header("x-request-id", "mine-17")).await;
    assert_eq!(answer.json()["request_id"], "mine-17");
}

#[tokio::test]
async fn health_readiness_and_figures_are_there() {
    let world = World::start().await;
    world.register("counted").await;
    assert_eq!(world.ours.anonymous().get("/healthz").await.text, "ok\n");
    assert_eq!(world.ours.anonymous().get("/readyz").await.text, "ready\n");
    world.ours.get("/api/agents/absent").await;
    let figures = world.ours.get("/metrics").await;
    let line =
        "parallax_http_requests_total{method=\"GET\",route=\"/api/agents/{id}\",status=\"404\"} 1";
    assert!(figures.text.contains(line), "{}", figures.text);
    assert!(
        figures.text.contains("parallax_agents{phase="),
        "{}",
        figures.text
    );
    assert!(
        !figures.text.contains("absent"),
        "no name of a caller's becomes a label"
    );
}
