//! Python projects whose dependencies another tool than pip installs, from the real registry.

use parallax_runtime::Host;
use parallax_shim::log::{LogItem, LogReader};

use crate::fixture::{Source, World, eventually, new_build, new_replica};

const CODE: &str =
    "import idna, time\nprint('idna', idna.__version__, flush=True)\ntime.sleep(1000)\n";

/// Builds and runs a project; says why that is impossible here although nothing is wrong with it.
async fn obstacle(tool: &str, files: [(&str, &str); 2]) -> Option<String> {
    let mut world = World::empty().await;
    let mut config = world.config();
    config.tools_path = crate::config::search_path();
    config.build_env = crate::config::build_env();
    let host = Host::start(config).await.expect("the host starts");
    host.ready().await.expect("the host is welcome");
    world.build = new_build();
    let mut source = Source::of(&[files[0], files[1], ("main.py", CODE)]);
    source.deadline_ms = 300_000;
    world.build(&world.build, &source).await;
    let state = world.plane.built_slowly(&world.build).await;
    let fetching = state.message.contains(&format!("step `fetch {tool}`"));
    if state.phase != "succeeded" && (fetching || state.reason == "PlanFailed") {
        world.end(host).await;
        return Some(state.message);
    }
    assert_eq!(state.phase, "succeeded", "{}", state.message);
    let plan: serde_json::Value = serde_json::from_slice(&state.plan_json).expect("it is JSON");
    assert_eq!(plan["package_manager"]["name"], tool);
    let id = new_replica();
    world
        .plane
        .want_replica(world.replica(&id, &world.spec))
        .await;
    world.plane.phase(&id, "running").await;
    let log = world.replica_dir(&id).join("1");
    eventually("it runs with what its lockfile says", || {
        let reader = LogReader::open(&log, 0).expect("the log is readable");
        reader
            .flatten()
            .any(|item| matches!(item, LogItem::Record(it) if it.line == b"idna 3.10"))
    })
    .await;
    world.end(host).await;
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poetry_project_is_built_and_runs() {
    let files = [
        (
            "pyproject.toml",
            include_str!("python/poetry/pyproject.toml"),
        ),
        ("poetry.lock", include_str!("python/poetry/poetry.lock")),
    ];
    if let Some(why) = obstacle("poetry", files).await {
        parallax_testkit::skip!("poetry cannot be had here: {why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pdm_project_is_built_and_runs() {
    let files = [
        ("pyproject.toml", include_str!("python/pdm/pyproject.toml")),
        ("pdm.lock", include_str!("python/pdm/pdm.lock")),
    ];
    if let Some(why) = obstacle("pdm", files).await {
        parallax_testkit::skip!("pdm cannot be had here: {why}");
    }
}
