//! Logs: from a place, as a tail, as they grow, under credit, across incarnations.

use parallax_proto::v1::{LogCancel, LogRequest, host_down};

use crate::fixture::{Source, World, new_build, new_replica, tenant};
use crate::plane::{Known, Log};

fn request(stream: &str, source: &str) -> LogRequest {
    LogRequest {
        stream_id: stream.to_owned(),
        source_id: source.to_owned(),
        after_incarnation: 0,
        after_seq: 0,
        tail: None,
        follow: false,
        tenant_id: tenant(1).to_string(),
    }
}

/// What the replica itself wrote.
fn lines(log: &Log) -> Vec<String> {
    let own = log.records.iter().filter(|it| it.stream != "system");
    own.map(|it| String::from_utf8_lossy(&it.line).into_owned())
        .collect()
}

async fn read(world: &World, request: LogRequest) -> Log {
    let stream = request.stream_id.clone();
    world
        .plane
        .send(host_down::Frame::LogRequest(request))
        .await;
    let over = |known: &Known| {
        known
            .logs
            .get(&stream)
            .is_some_and(|log| log.ended || log.unavailable.is_some())
    };
    world.plane.until("the log ends", over).await.logs[&stream].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_read_from_a_place_and_across_incarnations() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    world
        .plane
        .want_replica(world.shell(&id, "echo one; echo two >&2; exit 1"))
        .await;
    let third = |known: &Known| {
        known
            .replicas
            .get(&id)
            .is_some_and(|it| it.incarnation == 3 && it.phase == "backoff")
    };
    world.plane.until("three crashes", third).await;
    let all = read(&world, request("all", &id)).await;
    let expected: Vec<&str> = ["one", "two"].repeat(3);
    let mut found = lines(&all);
    // Both streams of one process are read as they come.
    found.chunks_mut(2).for_each(<[String]>::sort);
    assert_eq!(found, expected);
    assert!(
        all.records
            .iter()
            .any(|it| it.stream == "stderr" && &it.line[..] == b"two")
    );
    assert!(
        all.records
            .iter()
            .all(|it| it.source_id == id && !it.gap_before)
    );
    let place = all
        .records
        .iter()
        .find(|it| it.incarnation == 2)
        .expect("it was started again");
    let mut later = request("later", &id);
    (later.after_incarnation, later.after_seq) = (place.incarnation, place.seq);
    let rest = read(&world, later).await;
    assert_eq!(
        (rest.records[0].incarnation, rest.records[0].seq),
        (2, place.seq + 1)
    );
    let mut tail = request("tail", &id);
    tail.tail = Some(2);
    let last = read(&world, tail).await;
    assert_eq!(last.records, all.records[all.records.len() - 2..]);
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_followed_as_it_grows_until_it_is_cancelled() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    let script = "n=0; while true; do n=$((n+1)); echo line $n; sleep 0.05; done";
    world.plane.want_replica(world.shell(&id, script)).await;
    world.plane.phase(&id, "running").await;
    let mut follow = request("follow", &id);
    follow.follow = true;
    world.plane.send(host_down::Frame::LogRequest(follow)).await;
    let grown = |known: &Known| {
        known
            .logs
            .get("follow")
            .is_some_and(|log| lines(log).len() >= 20)
    };
    let known = world.plane.until("twenty lines", grown).await;
    let found = lines(&known.logs["follow"]);
    let expected: Vec<String> = (1..=found.len()).map(|n| format!("line {n}")).collect();
    assert_eq!(found, expected);
    let cancel = LogCancel {
        stream_id: "follow".to_owned(),
    };
    world.plane.send(host_down::Frame::LogCancel(cancel)).await;
    // The host is free for the next request of the same name.
    let again = read(&world, request("follow", &id)).await;
    assert!(again.ended);
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_never_sends_more_than_its_credit() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    let script = "i=0; while [ $i -lt 3000 ]; do echo 'a line of some forty bytes, about as many'; i=$((i+1)); done; echo done; exec sleep 1000";
    world.plane.want_replica(world.shell(&id, script)).await;
    world.plane.phase(&id, "running").await;
    world.plane.set_log_credit(1000);
    let mut follow = request("slow", &id);
    follow.follow = true;
    world.plane.send(host_down::Frame::LogRequest(follow)).await;
    let whole = |known: &Known| {
        known
            .logs
            .get("slow")
            .is_some_and(|log| lines(log).last().is_some_and(|it| it == "done"))
    };
    let known = world.plane.until("everything", whole).await;
    assert_eq!(lines(&known.logs["slow"]).len(), 3001);
    assert!(!known.logs["slow"].unpaid, "more was sent than was granted");
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_rotated_says_what_is_missing() {
    let (world, first) = World::prepared().await;
    drop(first);
    let mut config = world.config();
    config.log_limits.segment_bytes = 4096;
    config.log_limits.keep_segments = 2;
    let host = parallax_runtime::Host::start(config)
        .await
        .expect("the host starts");
    let id = new_replica();
    let script = "i=0; while [ $i -lt 2000 ]; do echo 'padding padding padding'; i=$((i+1)); done; echo done; exec sleep 1000";
    host.ready().await.expect("the host is welcome");
    world.plane.want_replica(world.shell(&id, script)).await;
    world.plane.phase(&id, "running").await;
    let dir = world.replica_dir(&id).join("1");
    crate::fixture::eventually("it has written all", || {
        let tail = parallax_shim::log::LogReader::tail(&dir, 1).expect("the log is readable");
        tail.flatten().any(
            |item| matches!(item, parallax_shim::log::LogItem::Record(it) if it.line == b"done"),
        )
    })
    .await;
    let mut after = request("rotated", &id);
    (after.after_incarnation, after.after_seq) = (1, 1);
    let log = read(&world, after).await;
    assert!(log.records[0].gap_before && log.records[0].seq > 2);
    assert!(log.records[1..].iter().all(|it| !it.gap_before));
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_not_here_or_is_anothers_is_unavailable() {
    let (world, host) = World::prepared().await;
    let id = new_replica();
    world
        .plane
        .want_replica(world.shell(&id, "exec sleep 1000"))
        .await;
    world.plane.phase(&id, "running").await;
    let unknown = read(&world, request("unknown", &new_replica())).await;
    assert!(
        unknown
            .unavailable
            .is_some_and(|words| words.contains("no log"))
    );
    let mut foreign = request("foreign", &id);
    foreign.tenant_id = tenant(2).to_string();
    assert!(read(&world, foreign).await.unavailable.is_some());
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_build_is_followed_to_its_end() {
    let world = World::empty().await;
    let host = world.host().await;
    let id = new_build();
    let script = "const fs = require('fs'); fs.mkdirSync('dist'); fs.writeFileSync('dist/index.js', ''); console.log('built it');";
    world.build(&id, &Source::with_build_script(script)).await;
    let state = world.plane.built(&id).await;
    assert_eq!(state.phase, "succeeded", "{}", state.message);
    let mut follow = request("build", &id);
    follow.follow = true;
    let log = read(&world, follow).await;
    assert!(
        lines(&log).iter().any(|line| line == "built it"),
        "{:?}",
        lines(&log)
    );
    world.end(host).await;
}
