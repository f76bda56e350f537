//! Uploads: what is taken, and what is refused before or while it arrives.

use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::world::{Answer, World, archive, form, read};

async fn deploy(world: &World, query: &str, form: Form) -> Answer {
    let path = format!("/api/agents/deploy{query}");
    read(world.ours.request(Method::POST, &path).multipart(form)).await
}

#[tokio::test]
async fn the_same_source_again_changes_nothing() {
    let world = World::start().await;
    let first = deploy(&world, "", form("alpha", archive("print()"))).await;
    assert_eq!(first.status, StatusCode::ACCEPTED, "{}", first.text);
    let deployed = first.json();
    assert_eq!(
        (&deployed["changed"], &deployed["revision"]["number"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(first.header("location"), deployed["status_url"]);
    let again = deploy(&world, "", form("alpha", archive("print()")))
        .await
        .json();
    assert_eq!(
        (&again["changed"], &again["revision"]["number"]),
        (&json!(false), &json!(1))
    );
    let other = deploy(&world, "", form("alpha", archive("print(2)")))
        .await
        .json();
    assert_eq!(
        (&other["changed"], &other["revision"]["number"]),
        (&json!(true), &json!(2))
    );
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen_and_changes_nothing() {
    let world = World::start().await;
    let plan = deploy(&world, "?dry_run", form("alpha", archive("print()"))).await;
    assert_eq!(plan.status, StatusCode::OK, "{}", plan.text);
    let plan = plan.json();
    let said = (&plan["action"], &plan["revision"], &plan["build"]);
    assert_eq!(said, (&json!("create"), &json!(1), &json!("needed")));
    assert_eq!(
        plan["spec"]["isolation"], "process",
        "defaults are filled in: {plan}"
    );
    assert_eq!(
        world.ours.get("/api/agents/alpha").await.status,
        StatusCode::NOT_FOUND
    );
    deploy(&world, "", form("alpha", archive("print()"))).await;
    let plan = deploy(&world, "?dry_run=true", form("alpha", archive("print()")))
        .await
        .json();
    assert_eq!(
        (&plan["action"], &plan["revision"]),
        (&json!("nothing"), &json!(null))
    );
}

#[tokio::test]
async fn a_malformed_upload_is_refused_with_its_reason() {
    let world = World::start().await;
    let cases = [
        (
            Form::new(),
            "invalid_request",
            "no well-formed multipart/form-data",
        ),
        (
            Form::new().text("source", "x"),
            "invalid_request",
            "not `source`",
        ),
        (Form::new().text("spec", "{"), "invalid_spec", "`spec`"),
        (
            Form::new().text("spec", r#"{"name":"a","nmae":1}"#),
            "invalid_spec",
            "nmae",
        ),
        (
            Form::new().text("spec", r#"{"name":"a"}"#),
            "invalid_request",
            "needs a `source`",
        ),
        (form("a", b"plain".to_vec()), "invalid_source", "gzip"),
        (form("a", Vec::new()), "invalid_source", "gzip"),
        (form("A b", archive("")), "invalid_spec", "is not a name"),
    ];
    for (form, code, detail) in cases {
        let answer = deploy(&world, "", form).await;
        assert_eq!(answer.code(), code, "{}", answer.text);
        assert!(answer.text.contains(detail), "{}", answer.text);
    }
    assert_eq!(
        world.ours.get("/api/agents").await.json()["items"],
        json!([])
    );
}

#[tokio::test]
async fn a_source_beyond_the_limit_is_refused_and_leaves_nothing() {
    let world = World::start_with(|config| config.limits.max_source_bytes = 1000).await;
    let mut source = archive("print()");
    source.resize(5000, 7);
    for query in ["", "?dry_run"] {
        let answer = deploy(&world, query, form("alpha", source.clone())).await;
        let expected = (StatusCode::PAYLOAD_TOO_LARGE, "too_large");
        assert_eq!((answer.status, answer.code().as_str()), expected);
        assert!(answer.text.contains("1000 bytes"), "{}", answer.text);
    }
    let blobs = world
        .app()
        .data_dir
        .join("blobs")
        .join(world.server.tenant.to_string());
    let left = std::fs::read_dir(blobs.join("incoming"))
        .map(Iterator::count)
        .unwrap_or(0);
    assert_eq!(left, 0, "a refused upload was left behind");
    assert_eq!(
        world.ours.get("/api/agents/alpha").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_secret_in_the_spec_is_refused_before_the_upload_is_stored() {
    let world = World::start().await;
    let spec =
        json!({ "name": "a", "env": { "TOKEN": "ghp_0123456789abcdefghijklmnopqrstuvwxyz" } });
    let form = Form::new()
        .text("spec", spec.to_string())
        .part("source", Part::bytes(archive("x")).file_name("s.tar.gz"));
    let answer = deploy(&world, "", form).await;
    assert_eq!(answer.code(), "invalid_spec", "{}", answer.text);
    assert!(
        !answer.text.contains("ghp_0123"),
        "the refusal shows the secret: {}",
        answer.text
    );
    assert!(
        !world
            .app()
            .data_dir
            .join("blobs")
            .join(world.server.tenant.to_string())
            .exists()
    );
}

#[tokio::test]
async fn images_and_repositories_come_later() {
    let world = World::start().await;
    for body in [
        json!({ "spec": { "name": "a" }, "image": "example/agent:1" }),
        json!({ "spec": { "name": "a" }, "git": "https://example.com/a.git" }),
    ] {
        let answer = world.ours.post("/api/agents/deploy", &body).await;
        assert_eq!(answer.code(), "not_implemented", "{}", answer.text);
    }
}
