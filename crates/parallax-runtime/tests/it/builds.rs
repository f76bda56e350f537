//! Builds: fetched, planned, run, cached, failed, cancelled, timed out.

use std::time::Duration;

use parallax_runtime::Stop;

use crate::fixture::{Source, World, all_gone, eventually, new_build, new_replica, processes_of};
use crate::plane::Known;

const BUILDS: &str = "const fs = require('fs'); fs.mkdirSync('dist', {recursive: true}); fs.writeFileSync('dist/index.js', 'setInterval(() => {}, 1000)'); console.log('compiled');";

fn running(build: &str) -> impl Fn(&Known) -> bool {
    move |known| {
        known
            .builds
            .get(build)
            .is_some_and(|it| it.phase == "running")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_built_and_its_agent_runs() {
    let mut world = World::empty().await;
    let host = world.host().await;
    world.build = new_build();
    world
        .build(&world.build, &Source::with_build_script(BUILDS))
        .await;
    let state = world.plane.built(&world.build).await;
    assert_eq!(
        (state.phase.as_str(), state.cached),
        ("succeeded", false),
        "{}",
        state.message
    );
    let plan: serde_json::Value = serde_json::from_slice(&state.plan_json).expect("it is JSON");
    assert_eq!(plan["version"], 1);
    assert!(state.ended_unix_us >= state.started_unix_us && state.started_unix_us > 0);
    let history = world.plane.known().build_history;
    let step = history
        .iter()
        .find(|it| it.phase == "running")
        .expect("a step was told");
    assert!(
        !step.step.is_empty() && step.message.starts_with("step 1 of "),
        "{step:?}"
    );
    let id = new_replica();
    world
        .plane
        .want_replica(world.replica(&id, &world.spec))
        .await;
    world.plane.phase(&id, "running").await;
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_equal_build_is_not_run_again() {
    let world = World::empty().await;
    let host = world.host().await;
    let source = Source::with_build_script(BUILDS);
    let (first, second) = (new_build(), new_build());
    world.build(&first, &source).await;
    assert_eq!(world.plane.built(&first).await.phase, "succeeded");
    world.build(&second, &source).await;
    let state = world.plane.built(&second).await;
    assert_eq!((state.phase.as_str(), state.cached), ("succeeded", true));
    let steps = |known: &Known| {
        known
            .build_history
            .iter()
            .any(|it| it.build_id == second && it.phase == "running")
    };
    assert!(!steps(&world.plane.known()), "a step was run");
    // Both are known to the next host, too.
    host.stop(Stop::LeaveReplicas).await.expect("the host ends");
    let host = world.host().await;
    let builds = world.plane.known().hello.expect("it said hello").builds;
    assert!(
        builds.iter().filter(|it| it.phase == "succeeded").count() == 2,
        "{builds:?}"
    );
    world.end(host).await;
}

/// An agent with a lockfile and one dependency, which it carries itself.
fn with_lockfile(code: &str) -> Source {
    let package = r#"{"name":"worker","version":"1.0.0","scripts":{"start":"node index.js"},"dependencies":{"greeter":"file:vendor/greeter"}}"#;
    let lock = r#"{"name":"worker","version":"1.0.0","lockfileVersion":3,"requires":true,"packages":{"":{"name":"worker","version":"1.0.0","dependencies":{"greeter":"file:vendor/greeter"}},"node_modules/greeter":{"resolved":"vendor/greeter","link":true},"vendor/greeter":{"version":"1.0.0"}}}"#;
    Source::of(&[
        ("package.json", package),
        ("package-lock.json", lock),
        (
            "vendor/greeter/package.json",
            r#"{"name":"greeter","version":"1.0.0","main":"index.js"}"#,
        ),
        ("vendor/greeter/index.js", "module.exports = 'hello';"),
        ("index.js", code),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_with_an_equal_lockfile_does_not_install_again() {
    let mut world = World::empty().await;
    let host = world.host().await;
    let (first, second) = (new_build(), new_build());
    world.build(&first, &with_lockfile("1")).await;
    let state = world.plane.built(&first).await;
    assert_eq!(state.phase, "succeeded", "{}", state.message);
    let code = "console.log(require('greeter')); setInterval(() => {}, 1000)";
    world.build(&second, &with_lockfile(code)).await;
    let state = world.plane.built(&second).await;
    assert_eq!(
        (state.phase.as_str(), state.cached),
        ("succeeded", false),
        "{}",
        state.message
    );
    let installs = |build: &str| {
        let history = world.plane.known().build_history;
        history
            .iter()
            .any(|it| it.build_id == build && it.step.contains("install"))
    };
    assert!(installs(&first) && !installs(&second));
    world.build = second;
    let id = new_replica();
    world
        .plane
        .want_replica(world.replica(&id, &world.spec))
        .await;
    world.plane.phase(&id, "running").await;
    let log = world.replica_dir(&id).join("1");
    eventually("the kept dependency works", || {
        let reader = parallax_shim::log::LogReader::open(&log, 0).expect("the log is readable");
        reader.flatten().any(
            |item| matches!(item, parallax_shim::log::LogItem::Record(it) if it.line == b"hello"),
        )
    })
    .await;
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_step_is_named_with_its_exit_code_and_last_lines() {
    let world = World::empty().await;
    let host = world.host().await;
    let id = new_build();
    let script =
        "console.log('starting'); console.error('cannot find the thing'); process.exit(4);";
    world.build(&id, &Source::with_build_script(script)).await;
    let state = world.plane.built(&id).await;
    assert_eq!(
        (state.phase.as_str(), state.reason.as_str()),
        ("failed", "BuildFailed")
    );
    assert!(
        state.message.contains("cannot find the thing"),
        "{}",
        state.message
    );
    assert!(state.message.contains("exit code"), "{}", state.message);
    all_gone(&world.data_dir()).await;
    assert!(
        !world
            .data_dir()
            .join("builds")
            .join(&id)
            .join("app")
            .exists()
    );
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_is_cancelled_is_killed_with_all_its_processes() {
    let world = World::empty().await;
    let host = world.host().await;
    let id = new_build();
    let script = "require('child_process').spawn('sleep', ['1000'], {detached: true, stdio: 'ignore'}).unref(); setInterval(() => {}, 1000);";
    let source = Source::with_build_script(script);
    world.build(&id, &source).await;
    world.plane.until("a step runs", running(&id)).await;
    eventually("its child runs", || {
        processes_of(&world.data_dir())
            .iter()
            .any(|it| it.contains("sleep 1000"))
    })
    .await;
    let mut cancel = source.desired(&id);
    cancel.cancel = true;
    world.plane.want_build(cancel).await;
    let state = world.plane.built(&id).await;
    assert_eq!(
        (state.phase.as_str(), state.reason.as_str()),
        ("cancelled", "BuildCancelled")
    );
    all_gone(&world.data_dir()).await;
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_is_no_longer_wanted_is_cancelled_waiting_or_running() {
    let world = World::empty().await;
    let host = world.host().await;
    let (first, second) = (new_build(), new_build());
    let hangs = Source::with_build_script("setInterval(() => {}, 1000)");
    world.build(&first, &hangs).await;
    world.plane.until("the first runs", running(&first)).await;
    world
        .build(&second, &Source::with_build_script(BUILDS))
        .await;
    let waits = |known: &Known| {
        known
            .builds
            .get(&second)
            .is_some_and(|it| it.phase == "queued")
    };
    world.plane.until("the second waits", waits).await;
    world.plane.drop_build(&second).await;
    assert_eq!(world.plane.built(&second).await.phase, "cancelled");
    world.plane.drop_build(&first).await;
    assert_eq!(world.plane.built(&first).await.phase, "cancelled");
    all_gone(&world.data_dir()).await;
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_hangs_is_ended_by_its_deadline() {
    let world = World::empty().await;
    let host = world.host().await;
    let id = new_build();
    let mut source =
        Source::with_build_script("process.on('SIGTERM', () => {}); setInterval(() => {}, 1000);");
    source.deadline_ms = 2500;
    world.build(&id, &source).await;
    let state = world.plane.built(&id).await;
    assert_eq!(
        (state.phase.as_str(), state.reason.as_str()),
        ("failed", "BuildTimedOut")
    );
    all_gone(&world.data_dir()).await;
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_without_a_start_command_says_what_to_add() {
    let world = World::empty().await;
    let host = world.host().await;
    let id = new_build();
    world
        .build(
            &id,
            &Source::of(&[("package.json", r#"{"name":"worker","version":"1.0.0"}"#)]),
        )
        .await;
    let state = world.plane.built(&id).await;
    assert_eq!(
        (state.phase.as_str(), state.reason.as_str()),
        ("failed", "StartCommandMissing")
    );
    assert!(state.message.contains("parallax.toml"), "{}", state.message);
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_no_archive_cannot_be_planned() {
    let world = World::empty().await;
    let host = world.host().await;
    let id = new_build();
    let mut source = Source::node("");
    source.bytes = b"not an archive".to_vec();
    source.digest = {
        use sha2::Digest;
        let hash = sha2::Sha256::digest(&source.bytes);
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    };
    world.build(&id, &source).await;
    let state = world.plane.built(&id).await;
    assert_eq!(
        (state.phase.as_str(), state.reason.as_str()),
        ("failed", "PlanFailed")
    );
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_breaks_off_goes_on_where_it_was() {
    let world = World::empty().await;
    let host = world.host().await;
    let id = new_build();
    // Too random to compress well, so that it takes several chunks.
    let noise: String = (0..4000_u64)
        .map(|n| {
            n.wrapping_mul(6_364_136_223_846_793_005)
                .rotate_left(17)
                .to_string()
        })
        .collect();
    let code = format!("setInterval(() => {{}}, 1000); // {noise}");
    let source = Source::node(&code);
    assert!(source.bytes.len() > 5000);
    world.plane.break_artifact_after(4096);
    world.build(&id, &source).await;
    let state = world.plane.built(&id).await;
    assert_eq!(state.phase, "succeeded", "{}", state.message);
    assert_eq!(world.plane.known().offsets, [0, 4096]);
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_not_what_was_announced_is_refused() {
    let world = World::empty().await;
    let host = world.host().await;
    let (wrong, missing) = (new_build(), new_build());
    let source = Source::node("1");
    let mut other = Source::node("2").bytes;
    other.truncate(source.bytes.len());
    world.plane.put_artifact(&source.digest, other);
    world.plane.want_build(source.desired(&wrong)).await;
    let state = world.plane.built(&wrong).await;
    assert_eq!(
        (state.phase.as_str(), state.reason.as_str()),
        ("failed", "SourceUnavailable")
    );
    world
        .plane
        .want_build(Source::node("3").desired(&missing))
        .await;
    let state = world.plane.built(&missing).await;
    assert_eq!(
        (state.phase.as_str(), state.reason.as_str()),
        ("failed", "SourceUnavailable")
    );
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_build_begins_anew_with_the_next_host() {
    let world = World::empty().await;
    let host = world.host().await;
    let id = new_build();
    // Hangs the first time; its folder outside the app remembers.
    let script = format!(
        "const fs = require('fs'); const seen = process.env.npm_config_cache + '-seen'; if (!fs.existsSync(seen)) {{ fs.writeFileSync(seen, ''); setInterval(() => {{}}, 1000); }} else {{ {BUILDS} }}"
    );
    world.build(&id, &Source::with_build_script(&script)).await;
    world.plane.until("a step runs", running(&id)).await;
    eventually("the script has begun", || {
        let cache = world.data_dir().join("cache");
        let tenants = std::fs::read_dir(cache).into_iter().flatten().flatten();
        tenants
            .into_iter()
            .any(|it| it.path().join("tools/npm-seen").exists())
    })
    .await;
    // As a crash would: nothing is said, and the step goes on.
    drop(host);
    assert!(!processes_of(&world.data_dir()).is_empty());
    let host = world.host().await;
    let state = world.plane.built(&id).await;
    assert_eq!(state.phase, "succeeded", "{}", state.message);
    all_gone(&world.data_dir()).await;
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_source_is_built_with_an_environment_of_its_own() {
    let mut world = World::empty().await;
    let mut config = world.config();
    config.tools_path = crate::config::search_path();
    let host = parallax_runtime::Host::start(config)
        .await
        .expect("the host starts");
    host.ready().await.expect("the host is welcome");
    let facts = world
        .plane
        .known()
        .hello
        .and_then(|hello| hello.facts)
        .expect("it said hello");
    if !facts.builders.contains(&"python".to_owned()) {
        world.end(host).await;
        parallax_testkit::skip!("this machine has no python that can make environments");
    }
    world.build = new_build();
    let code = "import os, sys, time\nprint(sys.prefix, flush=True)\ntime.sleep(1000)\n";
    let source = Source::of(&[("main.py", code), ("requirements.txt", "")]);
    world.build(&world.build, &source).await;
    let state = world.plane.built(&world.build).await;
    assert_eq!(state.phase, "succeeded", "{}", state.message);
    let id = new_replica();
    world
        .plane
        .want_replica(world.replica(&id, &world.spec))
        .await;
    world.plane.phase(&id, "running").await;
    let app = world
        .data_dir()
        .join("builds")
        .join(&world.build)
        .join("app");
    let prefix = app.to_string_lossy().into_owned();
    let log = world.replica_dir(&id).join("1");
    eventually("it runs in its own environment", || {
        let reader = parallax_shim::log::LogReader::open(&log, 0).expect("the log is readable");
        reader.flatten().any(|item| match item {
            parallax_shim::log::LogItem::Record(it) => {
                String::from_utf8_lossy(&it.line).starts_with(&prefix)
            }
            parallax_shim::log::LogItem::Gap { .. } => false,
        })
    })
    .await;
    let deadline = Duration::from_secs(20);
    host.stop(Stop::StopAll { deadline })
        .await
        .expect("everything ends");
    world.assert_nothing_runs();
}
