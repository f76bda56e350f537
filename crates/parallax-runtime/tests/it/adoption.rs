//! Hosts that end and come back, and shims that are killed.

use std::time::Duration;

use parallax_proto::v1::ObservedReplica;
use parallax_runtime::Stop;
use parallax_shim::record::StateRecord;
use parallax_shim::spec::ShimSpec;
use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{
    World, all_gone, environment, eventually, new_replica, processes_of, stopped,
};
use crate::plane::Known;

fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("it is a pid")).expect("it is a pid");
    kill_process(pid, Signal::KILL).expect("it runs");
}

fn state(world: &World, id: &str, incarnation: u64) -> StateRecord {
    let dir = world.replica_dir(id).join(incarnation.to_string());
    StateRecord::load(&dir)
        .expect("it is readable")
        .expect("it was started")
}

async fn running(world: &World, id: &str) -> ObservedReplica {
    world
        .plane
        .want_replica(world.shell(id, "echo up; exec sleep 1000"))
        .await;
    world.plane.phase(id, "running").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_comes_back_goes_on_with_what_runs() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    let before = running(&world, &id).await;
    host.stop(Stop::LeaveReplicas).await.expect("the host ends");
    assert!(
        !processes_of(&world.data_dir()).is_empty(),
        "the replica goes on"
    );
    let host = world.host().await;
    let hello = world.plane.known().hello.expect("it said hello");
    let observed = hello.observed.expect("it says what it has");
    let seen = &observed.replicas[0];
    assert!(observed.complete);
    assert_eq!(
        (seen.pid, seen.incarnation, seen.phase.as_str()),
        (before.pid, 1, "running")
    );
    assert_eq!(
        (seen.restarts, seen.started_unix_us),
        (0, before.started_unix_us)
    );
    world
        .plane
        .want_replica(stopped(world.shell(&id, "echo up; exec sleep 1000")))
        .await;
    world.plane.phase(&id, "stopped").await;
    world.end(host).await;
}

/// Where no server is.
const ELSEWHERE: &str = "http://127.0.0.1:9";

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_dial_where_their_server_was_are_replaced_one_by_one() {
    let (world, host) = World::prepared().await;
    let ids = [new_replica(), new_replica(), new_replica()];
    let at = |id: &String, url: &str| {
        let mut desired = world.shell(id, "echo up; exec sleep 1000");
        url.clone_into(&mut desired.server_url);
        desired
    };
    for id in &ids {
        world.plane.want_replica(at(id, ELSEWHERE)).await;
        world.plane.phase(id, "running").await;
    }
    host.stop(Stop::LeaveReplicas).await.expect("the host ends");
    for id in &ids {
        world.plane.want_replica(at(id, &world.plane.url)).await;
    }
    let earlier = world.plane.known().history.len();
    let host = world.host().await;
    let replaced = |known: &Known| {
        ids.iter().all(|id| {
            let seen = known.replicas.get(id);
            seen.is_some_and(|it| it.phase == "running" && it.incarnation == 2)
        })
    };
    let known = world.plane.until("all are replaced", replaced).await;
    let mut away = std::collections::BTreeSet::new();
    for seen in &known.history[earlier..] {
        match seen.phase.as_str() {
            "running" => away.remove(&seen.replica_id),
            _ => away.insert(seen.replica_id.clone()),
        };
        assert!(away.len() <= 1, "{away:?} are replaced at a time");
    }
    for id in &ids {
        let seen = &known.replicas[id];
        let dials = environment(seen.pid).remove("PARALLAX_URL");
        assert_eq!(dials.as_ref(), Some(&world.plane.url));
        let crash = known.history.iter().any(|it| it.phase == "backoff");
        assert!(!crash && seen.restarts == 1, "{seen:?}");
    }
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_contact_replaces_nothing() {
    let (mut world, host) = World::prepared().await;
    let id = new_replica();
    let before = running(&world, &id).await;
    host.stop(Stop::LeaveReplicas).await.expect("the host ends");
    world.plane.stop().await;
    let mut config = world.config();
    // Another address, at which nobody answers.
    ELSEWHERE.clone_into(&mut config.server_url);
    let host = parallax_runtime::Host::start(config)
        .await
        .expect("the host starts");
    host.stop(Stop::LeaveReplicas).await.expect("the host ends");
    world.plane.restart().await;
    let host = world.host().await;
    assert_eq!(world.plane.phase(&id, "running").await.pid, before.pid);
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_dropped_without_a_word_is_taken_over_alike() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    let before = running(&world, &id).await;
    drop(host);
    let host = world.host().await;
    assert_eq!(world.plane.phase(&id, "running").await.pid, before.pid);
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_came_while_no_host_was_there_is_reported_and_mended() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    let before = running(&world, &id).await;
    host.stop(Stop::LeaveReplicas).await.expect("the host ends");
    kill(before.pid);
    let exit = world.replica_dir(&id).join("1/exit.json");
    eventually("the shim has recorded the end", || exit.exists()).await;
    let host = world.host().await;
    let again = |known: &Known| {
        known
            .replicas
            .get(&id)
            .is_some_and(|it| it.phase == "running" && it.incarnation == 2)
    };
    let known = world.plane.until("started again", again).await;
    let told = known.history.iter().any(|it| {
        it.incarnation == 1 && it.exit.as_ref().is_some_and(|exit| exit.signal == Some(9))
    });
    assert!(told, "{:#?}", known.history);
    assert_eq!(known.replicas[&id].restarts, 1);
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_shim_is_killed_is_lost_and_then_started_again() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    let before = running(&world, &id).await;
    kill(state(&world, &id, 1).shim_pid);
    let again = |known: &Known| {
        known
            .replicas
            .get(&id)
            .is_some_and(|it| it.phase == "running" && it.incarnation == 2)
    };
    let known = world.plane.until("started again", again).await;
    let lost = known
        .history
        .iter()
        .find(|it| it.incarnation == 1 && it.reason == "ShimLost");
    let lost = lost.expect("the loss was told");
    assert_eq!(
        lost.exit, None,
        "an end that nobody recorded is not guessed"
    );
    // Dead processes may stay listed until they are waited for, but have no command any more.
    let command = std::fs::read(format!("/proc/{}/cmdline", before.pid)).unwrap_or_default();
    assert!(command.is_empty(), "the first process still runs");
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_that_was_killed_while_no_host_was_there_leaves_nothing_behind() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    // A grandchild in a session of its own: only its cgroup and its output know it.
    let script = "setsid sh -c 'sleep 1000 & wait' & exec sleep 1000";
    world.plane.want_replica(world.shell(&id, script)).await;
    world.plane.phase(&id, "running").await;
    host.stop(Stop::LeaveReplicas).await.expect("the host ends");
    kill(state(&world, &id, 1).shim_pid);
    world
        .plane
        .want_replica(stopped(world.shell(&id, script)))
        .await;
    let host = world.host().await;
    let over = |known: &Known| {
        known
            .replicas
            .get(&id)
            .is_some_and(|it| ["lost", "stopped"].contains(&it.phase.as_str()))
    };
    let known = world.plane.until("over", over).await;
    assert_eq!(known.replicas[&id].phase, "lost");
    assert_eq!(known.replicas[&id].reason, "ShimLost");
    all_gone(&world.data_dir()).await;
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_are_counted_over_the_life_of_several_hosts() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    running(&world, &id).await;
    for incarnation in 1..3 {
        kill(state(&world, &id, incarnation).child_pid);
        let again = |known: &Known| {
            known
                .replicas
                .get(&id)
                .is_some_and(|it| it.phase == "running" && it.incarnation == incarnation + 1)
        };
        world.plane.until("started again", again).await;
    }
    host.stop(Stop::LeaveReplicas).await.expect("the host ends");
    let host = world.host().await;
    let seen = world.plane.phase(&id, "running").await;
    assert_eq!((seen.restarts, seen.incarnation), (2, 3));
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_contact_keeps_running_and_restarting_what_it_had() {
    let (mut world, host) = World::prepared().await;
    let id = new_replica();
    running(&world, &id).await;
    world.plane.stop().await;
    kill(state(&world, &id, 1).child_pid);
    let second = world.replica_dir(&id).join("2/state.json");
    eventually("it is started again without a server", || second.exists()).await;
    drop(host);
    // Also a host that starts without contact: what it runs with is on its disk.
    let host = parallax_runtime::Host::start(world.config())
        .await
        .expect("the host starts");
    kill(state(&world, &id, 2).child_pid);
    let third = world.replica_dir(&id).join("3/state.json");
    eventually("it is started again by the next host", || third.exists()).await;
    world.plane.restart().await;
    let seen = |known: &Known| {
        known.connected
            && known
                .replicas
                .get(&id)
                .is_some_and(|it| it.incarnation == 3)
    };
    world.plane.until("told after all", seen).await;
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn down_stops_everything_without_a_server_and_nothing_starts_by_itself() {
    let (mut world, host) = World::prepared().await;
    let ids = [new_replica(), new_replica()];
    for id in &ids {
        running(&world, id).await;
    }
    let spec = ShimSpec::load(&world.replica_dir(&ids[0]).join("1"));
    let cgroups = spec
        .expect("it is readable")
        .expect("it was written")
        .cgroup_dirs;
    host.stop(Stop::LeaveReplicas).await.expect("the host ends");
    world.plane.stop().await;
    let deadline = Duration::from_secs(20);
    parallax_runtime::down(&world.data_dir(), deadline)
        .await
        .expect("everything ends");
    world.assert_nothing_runs();
    assert!(cgroups.iter().all(|dir| !dir.exists()), "{cgroups:?}");
    // The next host waits until a server asks.
    let host = parallax_runtime::Host::start(world.config())
        .await
        .expect("the host starts");
    world.plane.restart().await;
    for id in &ids {
        let again = |known: &Known| {
            known
                .replicas
                .get(id)
                .is_some_and(|it| it.phase == "running" && it.incarnation == 2)
        };
        let known = world.plane.until("started again", again).await;
        assert_eq!(known.replicas[id].restarts, 1);
        let crashes = known
            .history
            .iter()
            .any(|it| it.replica_id == *id && it.phase == "backoff");
        assert!(!crashes, "an asked-for stop is no crash");
    }
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn down_of_a_folder_that_no_host_has_used_does_nothing() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let missing = dir.path().join("none");
    parallax_runtime::down(&missing, Duration::ZERO)
        .await
        .expect("there is nothing to do");
    assert!(!missing.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_host_in_the_same_folder_is_refused() {
    let world = World::empty().await;
    let host = world.host().await;
    let second = parallax_runtime::Host::start(world.config()).await;
    assert!(matches!(
        second,
        Err(parallax_runtime::HostError::InUse { .. })
    ));
    world.end(host).await;
}
