//! Shims that do not answer, and folders that are somewhere else.

use std::fs;
use std::time::Duration;

use parallax_runtime::Stop;
use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{World, new_replica, processes_of};
use crate::plane::Known;

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("it is a pid");
    kill_process(pid, signal).expect("it runs");
}

/// The shim of the world's only replica.
fn shim(world: &World) -> u32 {
    let all = processes_of(&world.data_dir());
    let shim = all.iter().find(|it| it.contains(" shim "));
    let shim = shim.unwrap_or_else(|| panic!("a shim among {all:?}"));
    let pid = shim.split(':').next().and_then(|pid| pid.parse().ok());
    pid.expect("a process number comes first")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_shim_is_woken_to_stop_its_replica_and_records_the_end() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    let desired = world.shell(&id, "exec sleep 1000");
    world.plane.want_replica(desired).await;
    world.plane.phase(&id, "running").await;
    signal(shim(&world), Signal::STOP);
    let record = world.replica_dir(&id).join("1/exit.json");
    let deadline = Duration::from_secs(30);
    let ended = host.stop(Stop::StopAll { deadline }).await;
    ended.expect("everything ends");
    world.assert_nothing_runs();
    // Not killed by force at the deadline, which leaves none.
    assert!(record.exists(), "its end is recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_what_runs_although_the_hosts_folder_was_moved() {
    let (world, host) = World::prepared().await;
    for _ in 0..2 {
        let id = new_replica();
        let desired = world.shell(&id, "exec sleep 1000");
        world.plane.want_replica(desired).await;
        world.plane.phase(&id, "running").await;
    }
    fs::rename(world.data_dir(), world.dir.path().join("moved")).expect("it is the test's own");
    let deadline = Duration::from_secs(30);
    // Whether its records could be written is another matter: they are elsewhere.
    let _ended = host.stop(Stop::StopAll { deadline }).await;
    // They are known by the path that they were started with.
    world.assert_nothing_runs();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_has_ended_is_not_shown_as_running_because_its_shim_is_frozen() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    let desired = world.shell(&id, "exec sleep 1000");
    world.plane.want_replica(desired).await;
    let running = world.plane.phase(&id, "running").await;
    signal(shim(&world), Signal::STOP);
    signal(running.pid, Signal::KILL);
    let again = |known: &Known| {
        let seen = known.replicas.get(&id);
        seen.is_some_and(|it| it.phase == "running" && it.incarnation == 2)
    };
    let known = world.plane.until("another process runs", again).await;
    let lost = |it: &parallax_proto::v1::ObservedReplica| it.reason == "ShimLost";
    assert!(known.history.iter().any(lost), "nobody was told");
    world.end(host).await;
}
