//! The conversation with the control plane.

use std::os::unix::fs::PermissionsExt;

use parallax_proto::v1::host_goaway::Reason;
use parallax_proto::v1::{Desired, HostGoaway, host_down};
use parallax_runtime::{CredentialSource, Host, Stop};

use crate::fixture::{World, new_replica, processes_of};
use crate::plane::{CREDENTIAL, JOIN_TOKEN};

#[tokio::test(flavor = "multi_thread")]
async fn a_host_says_what_it_is() {
    let world = World::empty().await;
    let host = world.host().await;
    let hello = world.plane.known().hello.expect("it said hello");
    let facts = hello.facts.expect("it says what it is");
    assert_eq!(
        (hello.host_name.as_str(), hello.proto_versions.as_slice()),
        ("here", &[1][..])
    );
    assert_eq!(
        (facts.kind.as_str(), facts.isolation.as_str()),
        ("local", "landlock")
    );
    assert_eq!(facts.isolation_tiers, ["process"]);
    assert!(
        facts.builders.contains(&"typescript".to_owned()),
        "{:?}",
        facts.builders
    );
    assert!(facts.cpu_millis >= 1000 && facts.memory_bytes > 0 && !facts.boot_id.is_empty());
    assert!(!facts.unsafe_no_isolation);
    world
        .plane
        .until("heartbeats", |known| known.heartbeats >= 2)
        .await;
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_comes_back_after_the_server_was_gone() {
    let (mut world, host) = World::prepared().await;
    let id = new_replica();
    world
        .plane
        .want_replica(world.shell(&id, "exec sleep 1000"))
        .await;
    let before = world.plane.phase(&id, "running").await;
    world.plane.stop().await;
    world.plane.restart().await;
    let known = world
        .plane
        .until("a second session", |known| known.sessions == 2)
        .await;
    let observed = known
        .hello
        .and_then(|hello| hello.observed)
        .expect("it says what it has");
    assert_eq!(observed.replicas[0].pid, before.pid);
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goaway_is_obeyed_and_the_host_returns() {
    let world = World::empty().await;
    let host = world.host().await;
    let goaway = HostGoaway {
        why: Reason::Shutdown.into(),
        message: "back soon".to_owned(),
        reconnect_after_ms: 50,
        ..HostGoaway::default()
    };
    world.plane.send(host_down::Frame::Goaway(goaway)).await;
    world
        .plane
        .until("a second session", |known| known.sessions == 2)
        .await;
    world.end(host).await;
}

/// Tells the host that a newer session has its place.
async fn supersede(world: &World) {
    let goaway = HostGoaway {
        why: Reason::Superseded.into(),
        message: "a newer session began".to_owned(),
        ..HostGoaway::default()
    };
    world.plane.send(host_down::Frame::Goaway(goaway)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_place_another_has_taken_says_so_and_leaves_what_runs() {
    let (mut world, host) = World::prepared().await;
    let id = new_replica();
    let desired = world.shell(&id, "exec sleep 1000");
    world.plane.want_replica(desired).await;
    let running = world.plane.phase(&id, "running").await;
    supersede(&world).await;
    let said = host.superseded().await.to_string();
    for words in ["another host uses the credential", "parallax hosts token"] {
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(world.plane.known().sessions, 1, "it does not come back");
    host.stop(Stop::LeaveReplicas).await.expect("the host ends");
    assert!(
        processes_of(&world.data_dir())
            .iter()
            .any(|it| it.starts_with(&format!("{}:", running.pid)))
    );
    // A new start of the same host is a newer session.
    world.plane.stop().await;
    world.plane.restart().await;
    let host = world.host().await;
    assert_eq!(world.plane.phase(&id, "running").await.pid, running.pid);
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_must_go_on_takes_its_place_back_after_its_wait() {
    let world = World::empty().await;
    let mut config = world.config();
    config.superseded_wait = Some(std::time::Duration::from_millis(1));
    let host = Host::start(config).await.expect("the host starts");
    host.ready().await.expect("the host is welcome");
    supersede(&world).await;
    let back = |known: &crate::plane::Known| known.sessions == 2;
    world.plane.until("a second session", back).await;
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn desired_state_of_another_epoch_is_ignored() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    world
        .plane
        .want_replica(world.shell(&id, "exec sleep 1000"))
        .await;
    let before = world.plane.phase(&id, "running").await;
    let stale = Desired {
        host_epoch: 999,
        generation: 1_000_000,
        complete: true,
        ..Desired::default()
    };
    world.plane.send(host_down::Frame::Desired(stale)).await;
    // What is asked for afterwards is followed: the stale one has been passed by.
    let second = new_replica();
    world
        .plane
        .want_replica(world.shell(&second, "exec sleep 1000"))
        .await;
    world.plane.phase(&second, "running").await;
    let known = world.plane.known();
    assert_eq!(known.replicas[&id].pid, before.pid);
    assert!(known.generation < 1_000_000);
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_token_is_traded_once_and_the_credential_is_kept() {
    let world = World::empty().await;
    let keep_at = world.dir.path().join("joined");
    let mut config = world.config();
    config.credential = CredentialSource::Join {
        token: JOIN_TOKEN.to_owned(),
        keep_at: keep_at.clone(),
    };
    assert!(!format!("{config:?}").contains(JOIN_TOKEN));
    let host = Host::start(config.clone()).await.expect("the host starts");
    host.ready().await.expect("the host is welcome");
    assert_eq!(
        std::fs::read_to_string(&keep_at).expect("it is kept"),
        CREDENTIAL
    );
    let mode = std::fs::metadata(&keep_at)
        .expect("it is kept")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(host);
    // The control plane takes the token only once: the second host uses what was kept.
    let host = Host::start(config).await.expect("the host starts");
    host.ready().await.expect("the host is welcome");
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_replaced_is_used_at_the_next_attempt() {
    let world = World::empty().await;
    let config = world.config();
    let credential = world.dir.path().join("credential");
    std::fs::write(&credential, "expired").expect("a file can be written");
    let host = Host::start(config).await.expect("the host starts");
    std::fs::write(&credential, CREDENTIAL).expect("a file can be written");
    host.ready().await.expect("the host is welcome");
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_none_is_refused_at_once() {
    let world = World::empty().await;
    let mut config = world.config();
    config.server_url = "not an address".to_owned();
    let refused = Host::start(config).await;
    assert!(matches!(
        refused,
        Err(parallax_runtime::HostError::ServerUrl { .. })
    ));
}

#[test]
fn the_doctor_says_what_follows_from_what_was_found() {
    let report = parallax_runtime::doctor(std::ffi::OsStr::new("/usr/bin"));
    let json = serde_json::to_value(&report).expect("it has string keys");
    assert_eq!(json["isolation"], "landlock");
    assert!(
        report.isolation_words.contains("Landlock"),
        "{}",
        report.isolation_words
    );
    assert!(
        report.tools.iter().any(|tool| tool.program == "node"),
        "{:?}",
        report.tools
    );
}
