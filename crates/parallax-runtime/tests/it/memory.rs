//! Limits on memory where no cgroup enforces them.

use parallax_core::manifest::RunSpec;
use parallax_core::quantity::MemoryBytes;
use parallax_runtime::Host;

use crate::fixture::{Source, World, new_replica};
use crate::plane::Known;

const MIB: u64 = 1 << 20;

async fn without_cgroups() -> (World, Host) {
    let world = World::empty().await;
    let mut config = world.config();
    config.cgroups = false;
    let host = Host::start(config).await.expect("the host starts");
    host.ready().await.expect("the host is welcome");
    let source = Source::node("setInterval(() => {}, 1000)");
    world.build(&world.build, &source).await;
    let state = world.plane.built(&world.build).await;
    assert_eq!(state.phase, "succeeded", "{}", state.message);
    (world, host)
}

fn limited(world: &World, code: &str, bytes: u64) -> RunSpec {
    let argv = ["node", "-e", code].map(str::to_owned).to_vec();
    let mut spec = RunSpec {
        start: Some(argv),
        ..world.spec.clone()
    };
    spec.resources.memory = Some(MemoryBytes::new(bytes));
    spec
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_uses_more_memory_than_it_may_is_killed_and_says_how_much() {
    let (world, host) = without_cgroups().await;
    let facts = world.plane.known().hello.and_then(|hello| hello.facts);
    assert_eq!(facts.map(|facts| facts.limits).as_deref(), Some("rlimit"));
    let id = new_replica();
    let grows = "const kept = []; setInterval(() => kept.push(Buffer.alloc(32 << 20, 1)), 20)";
    let spec = limited(&world, grows, 200 * MIB);
    world.plane.want_replica(world.replica(&id, &spec)).await;
    let killed = |known: &Known| {
        let mut of_replica = known.history.iter().filter(|it| it.replica_id == id);
        of_replica.any(|it| it.phase == "backoff" && it.reason == "OutOfMemory")
    };
    let known = world
        .plane
        .until("it is killed for its memory", killed)
        .await;
    let seen = known.history.iter().find(|it| it.reason == "OutOfMemory");
    let seen = seen.expect("it was waited for");
    let figures = "and may use 200 MiB";
    assert!(seen.message.contains(figures), "{}", seen.message);
    assert!(seen.exit.as_ref().is_some_and(|exit| exit.out_of_memory));
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_only_reserves_memory_is_left_alone() {
    let (world, host) = without_cgroups().await;
    let id = new_replica();
    // Far less than the address space of the runtime, more than it uses.
    let spec = limited(&world, "setInterval(() => {}, 1000)", 400 * MIB);
    world.plane.want_replica(world.replica(&id, &spec)).await;
    let measured = |known: &Known| {
        let mut of_replica = known.history.iter().filter(|it| it.replica_id == id);
        let measured = of_replica.by_ref().filter(|it| it.memory_bytes.is_some());
        measured.count() >= 1
    };
    let known = world.plane.until("it is measured", measured).await;
    let seen = &known.replicas[&id];
    assert_eq!((seen.phase.as_str(), seen.restarts), ("running", 0));
    world.end(host).await;
}
