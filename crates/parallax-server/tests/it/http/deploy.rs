//! Uploads: what is taken, and what is refused before or while it arrives.

use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::world::{Answer, World, archive, archive_of, form, read};

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

/// A tar.gz of one entry, whatever its path: the `tar` crate itself refuses to write some.
fn hostile(path: &str, kind: tar::EntryType, target: Option<&str>) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    if let Some(target) = target {
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
    }
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(0);
    header.set_cksum();
    let added = tar.append(&header, std::io::empty());
    added.expect("a vector takes any bytes");
    let gzip = tar.into_inner().expect("a vector takes any bytes");
    gzip.finish().expect("a vector takes any bytes")
}

#[tokio::test]
async fn an_unsafe_archive_is_refused_at_the_upload_with_its_entry_and_leaves_nothing() {
    use tar::EntryType;
    let world = World::start().await;
    let mut damaged = archive("print()");
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    let cases = [
        (
            hostile("../escape", EntryType::Regular, None),
            "its path contains `..`",
        ),
        (
            hostile("/etc/passwd", EntryType::Regular, None),
            "its path is absolute",
        ),
        (
            hostile("out", EntryType::Symlink, Some("../../etc")),
            "leads out of the archive",
        ),
        (hostile("zero", EntryType::Char, None), "it is a device"),
        (hostile("pipe", EntryType::Fifo, None), "it is a FIFO"),
        (damaged, "damaged or not a tar.gz"),
    ];
    for (source, detail) in cases {
        for query in ["", "?dry_run"] {
            let answer = deploy(&world, query, form("alpha", source.clone())).await;
            assert_eq!(answer.code(), "invalid_source", "{}", answer.text);
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
            assert!(answer.text.contains(detail), "{}", answer.text);
        }
    }
    let blobs = world.app().data_dir.join("blobs");
    let blobs = blobs.join(world.server.tenant.to_string());
    assert!(!blobs.join("sha256").exists(), "a refused upload was kept");
    let left = std::fs::read_dir(blobs.join("incoming")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "a refused upload was left behind");
}

/// A host that has joined and said which tools it has.
async fn host_with_node(world: &World) {
    use parallax_core::host::{HostFacts, HostTool, IsolationMeans};
    use parallax_core::quantity::{CpuMillis, MemoryBytes};
    let tool = |kind: &str| HostTool {
        kind: kind.to_owned(),
        version: "22.3.0".to_owned(),
        path: format!("/opt/{kind}"),
        ensurepip: false,
    };
    let facts = HostFacts {
        kind: "local".to_owned(),
        arch: "amd64".to_owned(),
        os: "linux".to_owned(),
        cpu: CpuMillis::new(1000),
        memory: MemoryBytes::new(1 << 30),
        isolation: IsolationMeans::Landlock,
        tiers: Vec::new(),
        limits: "rlimit".to_owned(),
        builders: Vec::new(),
        version: "0".to_owned(),
        labels: std::collections::BTreeMap::new(),
        unsafe_no_isolation: false,
        boot_id: String::new(),
        max_replicas: 1,
        tools: vec![tool("node"), tool("npm"), tool("abacus")],
    };
    let admin = world.admin().await;
    let named = super::world::named("here");
    let joined = world.app().register_host(&admin, named, facts).await;
    joined.expect("it joins");
}

#[tokio::test]
async fn a_dry_run_plans_with_a_hosts_tools_and_says_why_it_cannot() {
    let world = World::start().await;
    let source = |name: &str| archive_of(name, "console.log()");
    let unknown = deploy(&world, "?dry_run", form("alpha", source("index.js"))).await;
    assert_eq!(unknown.json()["plan"], json!(null));
    let note = &unknown.json()["plan_note"];
    assert!(
        note.as_str().is_some_and(|n| n.contains("no host")),
        "{note}"
    );
    host_with_node(&world).await;
    let planned = deploy(&world, "?dry_run", form("alpha", source("index.js"))).await;
    assert_eq!(planned.status, StatusCode::OK, "{}", planned.text);
    let planned = planned.json();
    let plan = &planned["plan"];
    assert_eq!(planned["planned_for"], "here");
    assert_eq!(
        (&plan["language"], &plan["runtime"]["resolved"]["version"]),
        (&json!("javascript"), &json!("22.3.0"))
    );
    assert_eq!(plan["start"]["argv"], json!(["node", "index.js"]));
    let failures = [
        ("notes.txt", "plan_failed"),
        ("package.json", "plan_failed"),
    ];
    for (file, code) in failures {
        let failed = deploy(&world, "?dry_run", form("alpha", source(file))).await;
        assert_eq!(failed.code(), code, "{}", failed.text);
    }
    let nothing = archive_of("package.json", r#"{"name":"a"}"#);
    let nothing = deploy(&world, "?dry_run", form("alpha", nothing)).await;
    assert_eq!(nothing.code(), "start_command_missing", "{}", nothing.text);
    let blobs = world.app().data_dir.join("blobs");
    let blobs = blobs.join(world.server.tenant.to_string());
    assert!(!blobs.join("sha256").exists(), "a dry run keeps nothing");
    let left = std::fs::read_dir(blobs.join("incoming")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "a dry run leaves nothing");
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
async fn a_dry_run_says_when_no_host_could_run_it() {
    let world = World::start().await;
    let why = async |spec: Value| {
        let form = Form::new().text("spec", spec.to_string());
        let planned = deploy(&world, "?dry_run", form).await;
        assert_eq!(planned.status, StatusCode::OK, "{}", planned.text);
        planned.json()["unschedulable"].to_string()
    };
    assert!(
        why(json!({ "name": "alpha" }))
            .await
            .contains("no host has joined")
    );
    host_with_node(&world).await;
    let strong = why(json!({ "name": "alpha", "isolation": "gvisor" })).await;
    assert!(strong.contains("here: "), "{strong}");
    assert_eq!(why(json!({ "name": "alpha", "replicas": 0 })).await, "null");
}

#[tokio::test]
async fn an_agent_may_not_take_the_name_of_a_path() {
    let world = World::start().await;
    let refused = deploy(&world, "", form("deploy", archive("print()"))).await;
    assert_eq!(refused.code(), "invalid_spec", "{}", refused.text);
    assert!(refused.text.contains("choose another"), "{}", refused.text);
}

#[tokio::test]
async fn nothing_may_follow_the_source() {
    let world = World::start().await;
    for name in ["source", "suspended", "more"] {
        let extra = form("alpha", archive("print()")).text(name, "true");
        let refused = deploy(&world, "", extra).await;
        assert_eq!(refused.code(), "invalid_request", "{}", refused.text);
        assert!(refused.text.contains(name), "{}", refused.text);
    }
    let absent = world.ours.get("/api/agents/alpha").await;
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
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

#[tokio::test]
async fn logs_of_a_revision_that_never_was_are_not_found() {
    let world = World::start().await;
    deploy(&world, "", form("alpha", archive("print()"))).await;
    let there = world.ours.get("/api/agents/alpha/logs?revision=1").await;
    assert_eq!((there.status, there.text.as_str()), (StatusCode::OK, ""));
    let absent = world.ours.get("/api/agents/alpha/logs?revision=77").await;
    assert_eq!(absent.code(), "not_found", "{}", absent.text);
}
