//! Walks every operation of the OpenAPI document: as nobody, and as another tenant.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::world::{Answer, Client, World, read};

/// Answers anybody.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// Everything of a tenant that another one might ask for.
struct Belongings {
    agent: String,
    agent_name: &'static str,
    task: String,
    key: String,
}

impl Belongings {
    async fn of_ours(world: &World) -> Self {
        let agent = world.register("alpha-secret").await;
        let request = world
            .ours
            .request(Method::POST, "/api/agents/alpha-secret/invoke");
        let call = json!({ "capability": "score", "input": "private-input" });
        let task = read(request.header("prefer", "respond-async").json(&call)).await;
        assert_eq!(task.status, StatusCode::ACCEPTED, "{}", task.text);
        let key = json!({ "name": "private-key", "scopes": ["read"] });
        let key = world.ours.post("/api/keys", &key).await;
        assert_eq!(key.status, StatusCode::CREATED, "{}", key.text);
        Self {
            agent,
            agent_name: "alpha-secret",
            task: text(&task.json()["id"]),
            key: text(&key.json()["key"]["id"]),
        }
    }

    /// The paths that a template stands for; more than one where ids and names are taken.
    fn paths(&self, template: &str) -> Vec<String> {
        if !template.contains("{id}") {
            return vec![template.to_owned()];
        }
        let ids: Vec<&str> = match template.split('/').nth(2) {
            Some("agents") => vec![&self.agent, self.agent_name],
            Some("tasks") => vec![&self.task],
            Some("keys") => vec![&self.key],
            _ => panic!("say whose id {template} takes"),
        };
        ids.into_iter()
            .map(|id| template.replace("{id}", id))
            .collect()
    }

    fn is_shown_in(&self, text: &str) -> bool {
        let marks = [
            &self.agent,
            self.agent_name,
            &self.task,
            &self.key,
            "private-",
        ];
        marks.iter().any(|mark| text.contains(mark))
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("it is a text").to_owned()
}

/// Every operation of the document: its id, method and path.
fn operations() -> Vec<(String, Method, String)> {
    let text = parallax_server::http::reference::openapi_json();
    let api: Value = serde_json::from_str(&text).expect("the document is JSON");
    let paths = api["paths"].as_object().expect("it has paths");
    let all = paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().expect("a path has methods");
        item.iter().map(move |(method, operation)| {
            let method = method.to_uppercase().parse().expect("a method");
            (text_of(&operation["operationId"]), method, path.clone())
        })
    });
    all.collect()
}

fn text_of(value: &Value) -> String {
    text(value)
}

/// A well-formed body, so that nothing but the tenant can be the reason of a refusal.
fn body(operation: &str) -> Option<Value> {
    Some(match operation {
        "deploy_agent" => json!({ "spec": { "name": "theirs" }, "suspended": true }),
        "scale_agent" => json!({ "replicas": 1 }),
        "invoke_agent" => json!({ "capability": "score" }),
        "cancel_task" => json!({}),
        "answer_task" => json!({ "input_id": "1", "value": 1 }),
        "create_key" => json!({ "name": "theirs", "scopes": ["read"] }),
        _ => return None,
    })
}

async fn ask(client: &Client, operation: &str, method: &Method, path: &str) -> Answer {
    let mut request = client.request(method.clone(), path);
    if let Some(body) = body(operation) {
        request = request.json(&body);
    }
    if operation == "watch_registry" {
        // It never ends by itself: its beginning must do.
        let mut lines = client.stream(path, "application/x-ndjson").await;
        let text = lines.until("synced").await;
        return Answer {
            status: StatusCode::OK,
            headers: Default::default(),
            text,
        };
    }
    read(request).await
}

#[tokio::test]
async fn nobody_gets_past_any_route_without_a_credential() {
    let world = World::start().await;
    let belongings = Belongings::of_ours(&world).await;
    for (operation, method, template) in operations() {
        for path in belongings.paths(&template) {
            let mut request = world.ours.anonymous().request(method.clone(), &path);
            if let Some(body) = body(&operation) {
                request = request.json(&body);
            }
            let answer = read(request).await;
            if OPEN.contains(&path.as_str()) {
                assert_eq!(
                    answer.status,
                    StatusCode::OK,
                    "{operation}: {}",
                    answer.text
                );
                continue;
            }
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{operation}");
            assert_eq!(answer.code(), "unauthenticated", "{operation}");
            assert!(
                answer.header("www-authenticate").starts_with("Bearer"),
                "{operation}"
            );
        }
    }
}

#[tokio::test]
async fn another_tenant_sees_and_touches_nothing_by_any_route() {
    let world = World::start().await;
    let belongings = Belongings::of_ours(&world).await;
    let before = state(&world, &belongings).await;
    let theirs = world.theirs().await;
    for (operation, method, template) in operations() {
        for path in belongings.paths(&template) {
            let answer = ask(&theirs, &operation, &method, &path).await;
            if template.contains("{id}") {
                assert_eq!(
                    answer.status,
                    StatusCode::NOT_FOUND,
                    "{method} {path} {}",
                    answer.text
                );
                assert_eq!(answer.code(), "not_found", "{operation}");
                continue;
            }
            assert!(
                answer.status.is_success(),
                "{method} {path}: {}",
                answer.text
            );
            assert!(
                !belongings.is_shown_in(&answer.text),
                "{method} {path}: {}",
                answer.text
            );
        }
    }
    assert_eq!(state(&world, &belongings).await, before);
}

/// What must not have changed.
async fn state(world: &World, belongings: &Belongings) -> Vec<Value> {
    let agent = world
        .ours
        .get(&format!("/api/agents/{}", belongings.agent))
        .await
        .json();
    let task = world
        .ours
        .get(&format!("/api/tasks/{}", belongings.task))
        .await
        .json();
    let keys = world.ours.get("/api/keys").await.json();
    vec![
        agent["generation"].clone(),
        agent["replicas"].clone(),
        task["state"].clone(),
        keys,
    ]
}

#[tokio::test]
async fn a_key_that_only_reads_changes_nothing() {
    let world = World::start().await;
    let belongings = Belongings::of_ours(&world).await;
    let before = state(&world, &belongings).await;
    let reader = world
        .with_scopes("reader", &[parallax_core::key::Scope::Read])
        .await;
    for (operation, method, template) in operations() {
        if method == Method::GET {
            continue;
        }
        for path in belongings.paths(&template) {
            let answer = ask(&reader, &operation, &method, &path).await;
            assert_eq!(
                answer.status,
                StatusCode::FORBIDDEN,
                "{method} {path}: {}",
                answer.text
            );
        }
    }
    let mut after = state(&world, &belongings).await;
    // The reader's own key is new in the list.
    let keys = after.pop().expect("the keys are last")["items"]
        .as_array()
        .map_or(0, Vec::len);
    let expected = before[3]["items"].as_array().map_or(0, Vec::len) + 1;
    assert_eq!((after, keys), (before[..3].to_vec(), expected));
}

#[tokio::test]
async fn a_hosted_agents_credential_opens_no_route() {
    let world = World::start().await;
    let belongings = Belongings::of_ours(&world).await;
    let agent = world.replica("alpha-secret", &belongings.agent);
    for (operation, method, template) in operations() {
        for path in belongings.paths(&template) {
            if OPEN.contains(&path.as_str()) {
                continue;
            }
            let mut request = agent.request(method.clone(), &path);
            if let Some(body) = body(&operation) {
                request = request.json(&body);
            }
            let answer = read(request).await;
            assert_eq!(
                answer.status,
                StatusCode::FORBIDDEN,
                "{method} {path}: {}",
                answer.text
            );
        }
    }
}
