//! Running, stopping, crashing.

use std::time::Duration;

use parallax_core::manifest::{HttpProbe, IsolationTier, RunSpec};

use crate::fixture::{World, all_gone, environment, eventually, new_replica, stopped};
use crate::plane::Known;

#[tokio::test(flavor = "multi_thread")]
async fn a_desired_replica_runs_with_its_own_environment_and_stops_when_asked() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    let mut spec = world.spec.clone();
    spec.start = Some(
        ["/bin/sh", "-c", "echo up; exec sleep 1000"]
            .map(str::to_owned)
            .to_vec(),
    );
    spec.env
        .insert("GREETING".to_owned(), "hi there".to_owned());
    let desired = world.replica(&id, &spec);
    world.plane.want_replica(desired.clone()).await;
    let running = world.plane.phase(&id, "running").await;
    assert_eq!((running.incarnation, running.restarts), (1, 0));
    assert!(
        running.isolation.starts_with("landlock+"),
        "{}",
        running.isolation
    );
    let env = environment(running.pid);
    let run = world.replica_dir(&id).join("run/token");
    let expected = [
        ("PARALLAX_URL", world.plane.url.as_str()),
        ("PARALLAX_TOKEN_FILE", run.to_str().expect("it is text")),
        ("PARALLAX_AGENT_NAME", "worker"),
        ("PARALLAX_REPLICA_ID", id.as_str()),
        ("PARALLAX_REVISION", "7"),
        ("PARALLAX_STOP_GRACE_MS", "3000"),
        ("LANG", "C.UTF-8"),
        ("GREETING", "hi there"),
    ];
    for (name, value) in expected {
        assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(
        !env.values().any(|value| value.contains("agent-token")),
        "{env:?}"
    );
    assert!(
        !env.contains_key("PARALLAX_CA_FILE") && !env.contains_key("PORT"),
        "{env:?}"
    );
    world.plane.want_replica(stopped(desired)).await;
    let ended = world.plane.phase(&id, "stopped").await;
    assert_eq!(ended.exit.expect("it was recorded").signal, Some(15));
    all_gone(&world.data_dir()).await;
    world.plane.forget_replica(&id).await;
    world
        .plane
        .until("forgotten", |known| !known.replicas.contains_key(&id))
        .await;
    assert!(!world.replica_dir(&id).exists());
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_a_complete_set_leaves_out_is_stopped() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    world
        .plane
        .want_replica(world.shell(&id, "exec sleep 1000"))
        .await;
    world.plane.phase(&id, "running").await;
    world.plane.drop_replica(&id).await;
    world.plane.phase(&id, "stopped").await;
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashing_replica_is_started_again_and_then_is_in_a_crash_loop() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    world
        .plane
        .want_replica(world.shell(&id, "echo last words; exit 3"))
        .await;
    let in_loop = |known: &Known| {
        known
            .replicas
            .get(&id)
            .is_some_and(|it| it.reason == "CrashLoop" && it.phase == "backoff")
    };
    let known = world.plane.until("crash loop", in_loop).await;
    let seen = &known.replicas[&id];
    assert_eq!((seen.incarnation, seen.restarts), (3, 2));
    let exit = seen.exit.as_ref().expect("it was recorded");
    assert_eq!(
        (exit.code, exit.last_log_line.as_str()),
        (Some(3), "last words")
    );
    assert_eq!(
        seen.message,
        "3 crashes in a row; exit code 3; last log line: last words"
    );
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_ends_with_code_0_has_ended_early() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    world.plane.want_replica(world.shell(&id, "echo bye")).await;
    let early = |known: &Known| {
        known
            .replicas
            .get(&id)
            .is_some_and(|it| it.reason == "ExitedEarly")
    };
    let known = world.plane.until("early exit", early).await;
    let exit = known.replicas[&id].exit.clone().expect("it was recorded");
    assert_eq!(exit.code, Some(0));
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_does_not_exist_is_named() {
    let (world, host) = World::prepared().await;
    for (command, named) in [
        ("no-such-program", "no-such-program"),
        ("././no.sh", "/app/no.sh"),
    ] {
        let id = new_replica();
        let spec = RunSpec {
            start: Some(vec![command.to_owned()]),
            ..world.spec.clone()
        };
        world.plane.want_replica(world.replica(&id, &spec)).await;
        let failed = |known: &Known| {
            known
                .replicas
                .get(&id)
                .is_some_and(|it| it.reason == "StartFailed")
        };
        let known = world.plane.until("failed start", failed).await;
        let seen = &known.replicas[&id];
        assert!(seen.message.contains(named), "{}", seen.message);
        assert_eq!(seen.phase, "backoff");
    }
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_ignores_sigterm_is_killed_after_its_grace() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    let script = "trap '' TERM; echo deaf; while true; do sleep 0.05; done";
    let mut desired = world.shell(&id, script);
    desired.stop_grace_ms = 300;
    world.plane.want_replica(desired.clone()).await;
    world.plane.phase(&id, "running").await;
    let log = world.replica_dir(&id).join("1/log");
    eventually("the trap is set", || log_text(&log).contains("deaf")).await;
    world.plane.want_replica(stopped(desired)).await;
    let ended = world.plane.phase(&id, "stopped").await;
    assert_eq!(ended.exit.expect("it was recorded").signal, Some(9));
    assert!(
        ended.message.starts_with("killed after its grace"),
        "{}",
        ended.message
    );
    all_gone(&world.data_dir()).await;
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_renewed_in_place() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    let script = r#"while true; do echo "token $(cat "$PARALLAX_TOKEN_FILE")"; sleep 0.05; done"#;
    world.plane.want_replica(world.shell(&id, script)).await;
    world.plane.phase(&id, "running").await;
    let log = world.replica_dir(&id).join("1/log");
    eventually("the first token is read", || {
        log_text(&log).contains("token agent-token-1")
    })
    .await;
    let mut renewed = world.shell(&id, script);
    "agent-token-2".clone_into(&mut renewed.token);
    world.plane.want_replica(renewed).await;
    eventually("the second token is read", || {
        log_text(&log).contains("token agent-token-2")
    })
    .await;
    let mode = std::fs::metadata(world.replica_dir(&id).join("run/token")).expect("it exists");
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777,
        0o400
    );
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_says_whether_the_agent_answers() {
    let (mut world, host) = World::prepared().await;
    let id = new_replica();
    world.build = crate::fixture::new_build();
    let source = crate::fixture::Source::node(
        "let n = 0; require('http').createServer((q, s) => { n += 1; s.statusCode = n > 2 ? 200 : 503; s.end(); }).listen(process.env.PORT, '127.0.0.1')",
    );
    world.build(&world.build, &source).await;
    world.plane.built(&world.build).await;
    let spec = RunSpec {
        probe: Some(HttpProbe {
            http: "/healthz".to_owned(),
            port: 0,
            interval_ms: 100,
            timeout_ms: 2000,
        }),
        ..world.spec.clone()
    };
    world.plane.want_replica(world.replica(&id, &spec)).await;
    let answers = |known: &Known| {
        known
            .replicas
            .get(&id)
            .is_some_and(|it| it.probe_ok == Some(true))
    };
    let known = world.plane.until("the probe passes", answers).await;
    let of_it = known
        .history
        .iter()
        .filter(|it| it.replica_id == id && it.phase == "running");
    assert!(
        of_it.clone().any(|it| it.probe_ok == Some(false)),
        "it failed at first"
    );
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cpu_and_memory_are_reported() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    world
        .plane
        .want_replica(world.shell(&id, "while true; do :; done"))
        .await;
    let used = |known: &Known| {
        known.replicas.get(&id).is_some_and(|it| {
            it.cpu_ns.is_some_and(|ns| ns > 50_000_000) && it.memory_bytes.is_some_and(|b| b > 0)
        })
    };
    world.plane.until("usage", used).await;
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_that_the_host_lacks_is_refused_and_never_less_is_given() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    let spec = RunSpec {
        isolation: IsolationTier::Gvisor,
        ..world.spec.clone()
    };
    world.plane.want_replica(world.replica(&id, &spec)).await;
    let refused = world.plane.phase(&id, "failed").await;
    assert_eq!(refused.reason, "IsolationUnavailable");
    assert!(refused.message.contains("gvisor"), "{}", refused.message);
    assert_eq!(refused.incarnation, 0);
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_an_address_dials_where_its_host_does() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    let mut desired = world.shell(&id, "exec sleep 1000");
    desired.server_url = String::new();
    world.plane.want_replica(desired).await;
    let running = world.plane.phase(&id, "running").await;
    let env = environment(running.pid);
    assert_eq!(env.get("PARALLAX_URL"), Some(&world.plane.url));
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_waits_for_its_revision() {
    let world = World::empty().await;
    let host = world.host().await;
    let id = new_replica();
    world
        .plane
        .want_replica(world.shell(&id, "exec sleep 1000"))
        .await;
    world.plane.phase(&id, "preparing").await;
    let source = crate::fixture::Source::node("setInterval(() => {}, 1000)");
    world.build(&world.build, &source).await;
    world.plane.phase(&id, "running").await;
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_limit_is_enforced_and_named() {
    let (world, host) = World::prepared().await;
    let first = new_replica();
    world
        .plane
        .want_replica(world.shell(&first, "exec sleep 1000"))
        .await;
    let seen = world.plane.phase(&first, "running").await;
    if seen.isolation.ends_with("rlimit") {
        world.end(host).await;
        parallax_testkit::skip!("this machine offers no writable cgroup");
    }
    let id = new_replica();
    let mut desired = world.shell(&id, "exec tail /dev/zero");
    let mut spec: RunSpec = serde_json::from_slice(&desired.run_spec_json).expect("it was written");
    spec.resources.memory = Some(parallax_core::quantity::MemoryBytes::new(32 << 20));
    desired.run_spec_json = serde_json::to_vec(&spec)
        .expect("it has string keys")
        .into();
    world.plane.want_replica(desired).await;
    let oom = |known: &Known| {
        known
            .replicas
            .get(&id)
            .is_some_and(|it| it.reason == "OutOfMemory")
    };
    let known = world.plane.until("out of memory", oom).await;
    assert!(
        known.replicas[&id]
            .exit
            .as_ref()
            .is_some_and(|exit| exit.out_of_memory)
    );
    world.end(host).await;
}

fn log_text(dir: &std::path::Path) -> String {
    let mut text = String::new();
    // Before the first record there is no folder.
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_takes_no_more_replicas_than_it_says() {
    let world = World::empty().await;
    let mut config = world.config();
    config.max_replicas = 1;
    let host = parallax_runtime::Host::start(config)
        .await
        .expect("the host starts");
    host.ready().await.expect("the host is welcome");
    let (first, second) = (new_replica(), new_replica());
    world
        .plane
        .want_replica(world.shell(&first, "exec sleep 1000"))
        .await;
    world.plane.phase(&first, "preparing").await;
    world
        .plane
        .want_replica(world.shell(&second, "exec sleep 1000"))
        .await;
    let refused = world.plane.phase(&second, "failed").await;
    assert_eq!(refused.reason, "Unschedulable");
    let deadline = Duration::from_secs(10);
    host.stop(parallax_runtime::Stop::StopAll { deadline })
        .await
        .expect("everything ends");
}
