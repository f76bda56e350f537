//! What a host gives up because nobody needs it any more.

use std::collections::BTreeSet;
use std::fs;

use parallax_runtime::Stop;
use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{Source, World, eventually, new_build, new_replica, stopped};
use crate::plane::Known;

/// As many as a host keeps of builds, and of archives, that nobody needs.
const KEPT: usize = 8;

fn listed(world: &World, folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(world.data_dir().join(folder)).expect("the host has made it");
    let names = entries.map(|it| it.expect("it is readable").file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

async fn built(world: &World, code: &str) -> String {
    let id = new_build();
    world.build(&id, &Source::node(code)).await;
    let state = world.plane.built(&id).await;
    assert_eq!(state.phase, "succeeded", "{}", state.message);
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_that_nobody_needs_go_and_what_runs_or_is_wanted_stays() {
    let (mut world, host) = World::prepared().await;
    let runs_on = world.build.clone();
    let replica = new_replica();
    let desired = world.shell(&replica, "exec sleep 1000");
    world.plane.want_replica(desired.clone()).await;
    let running = world.plane.phase(&replica, "running").await;
    let wanted = built(&world, "0").await;
    let mut others = Vec::new();
    for number in 1..=KEPT + 3 {
        others.push(built(&world, &number.to_string()).await);
    }
    assert_eq!(listed(&world, "builds").len(), KEPT + 5, "all are here");
    world.plane.keep_builds(&[&wanted]).await;
    let gone: BTreeSet<String> = others[..3].iter().cloned().collect();
    let told = |known: &Known| known.removed_builds == gone;
    world
        .plane
        .until("the three oldest are given up", told)
        .await;
    let mut kept: BTreeSet<String> = others[3..].iter().cloned().collect();
    kept.extend([runs_on, wanted]);
    eventually("their folders are removed", || {
        listed(&world, "builds") == kept && listed(&world, "trash").is_empty()
    })
    .await;
    assert_eq!(listed(&world, "artifacts").len(), KEPT);
    // What runs can be started again, also by the next host.
    host.stop(Stop::LeaveReplicas).await.expect("the host ends");
    let host = world.host().await;
    let hello = world.plane.known().hello.expect("it said hello");
    let told: BTreeSet<String> = hello.builds.into_iter().map(|it| it.build_id).collect();
    assert_eq!(told, kept);
    let pid = Pid::from_raw(running.pid.cast_signed()).expect("it is a pid");
    kill_process(pid, Signal::KILL).expect("it runs");
    let again = |known: &Known| {
        let seen = known.replicas.get(&replica);
        seen.is_some_and(|it| it.phase == "running" && it.incarnation == 2)
    };
    world.plane.until("started again", again).await;
    // A build that was given up can be made anew.
    world.build = built(&world, "1").await;
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_not_told_what_is_of_use_gives_up_nothing() {
    let (world, host) = World::prepared().await;
    for number in 0..=KEPT {
        built(&world, &number.to_string()).await;
    }
    // Every change is a word of the server, and none of them says what is of use.
    assert_eq!(listed(&world, "builds").len(), KEPT + 2);
    assert!(world.plane.known().removed_builds.is_empty());
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_has_left_in_the_trash_is_removed() {
    let (world, host) = World::prepared().await;
    let left = world.data_dir().join("trash/bld_x.0/app");
    fs::create_dir_all(&left).expect("the folder is writable");
    fs::write(left.join("index.js"), "1").expect("the folder is writable");
    world.plane.keep_builds(&[&world.build]).await;
    eventually("the trash is empty", || listed(&world, "trash").is_empty()).await;
    world.end(host).await;
}

/// Waits until the host says that it has `build` no more, and that a replica waits for it.
async fn missed(world: &World, build: &str, replica: &str) {
    let told = |known: &Known| {
        let waits = known.replicas.get(replica);
        known.removed_builds.contains(build) && waits.is_some_and(|it| it.phase == "preparing")
    };
    world.plane.until("its loss is told", told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_revision_that_somebody_removed_is_missed_and_can_be_made_anew() {
    let (mut world, host) = World::prepared().await;
    let first = world.build.clone();
    world.plane.drop_build(&first).await;
    fs::remove_dir_all(world.data_dir().join("builds")).expect("it is the test's own");
    let replica = new_replica();
    let desired = world.shell(&replica, "exec sleep 1000");
    world.plane.want_replica(desired).await;
    missed(&world, &first, &replica).await;
    // The same source: what was prepared before must not count.
    world.build = built(&world, "setInterval(() => {}, 1000)").await;
    let desired = world.shell(&replica, "exec sleep 1000");
    world.plane.want_replica(desired).await;
    let running = world.plane.phase(&replica, "running").await;
    assert_eq!((running.incarnation, running.restarts), (1, 0));
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_revision_without_its_program_is_missed_also_by_the_next_host() {
    let (world, host) = World::prepared().await;
    let script =
        "require('fs').writeFileSync('agent', '#!/bin/sh\\nexec sleep 1000', {mode: 0o755})";
    let mut source = Source::with_build_script(script);
    source.spec.start = Some(vec!["./agent".to_owned()]);
    let build = new_build();
    world.build(&build, &source).await;
    let state = world.plane.built(&build).await;
    assert_eq!(state.phase, "succeeded", "{}", state.message);
    world.plane.drop_build(&build).await;
    let replica = new_replica();
    let desired = || {
        let mut desired = world.replica(&replica, &world.spec);
        desired.build_id.clone_from(&build);
        desired
    };
    world.plane.want_replica(desired()).await;
    world.plane.phase(&replica, "running").await;
    world.plane.want_replica(stopped(desired())).await;
    world.plane.phase(&replica, "stopped").await;
    let folder = world.data_dir().join("builds").join(&build);
    fs::remove_file(folder.join("app/agent")).expect("it was built");
    host.stop(Stop::LeaveReplicas).await.expect("the host ends");
    let host = world.host().await;
    world.plane.want_replica(desired()).await;
    missed(&world, &build, &replica).await;
    assert!(!folder.join("build.json").exists(), "or it would come back");
    // What is left of it goes once no replica is on it.
    world.plane.forget_replica(&replica).await;
    let forgotten = |known: &Known| !known.replicas.contains_key(&replica);
    world.plane.until("forgotten", forgotten).await;
    world.plane.keep_builds(&[&world.build]).await;
    eventually("the rest is removed", || !folder.exists()).await;
    world.end(host).await;
}
