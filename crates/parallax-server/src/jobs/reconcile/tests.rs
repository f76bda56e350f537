//! Agents on a real store, with hosts that do and say what a test wants.

mod absence;

use std::time::Duration;

use parallax_core::build::BuildPhase;
use parallax_core::id::ReplicaId;
use parallax_core::replica::{ReplicaPhase, Want};
use parallax_proto::v1;
use parallax_proto::v1::desired_replica::Want as Wanted;

use super::*;
use crate::app::{Limits, Receipt};
use crate::dispatch::tests as dispatch;
use crate::testing::{HostDouble, World, observed};

/// Connects the agents of these replicas, as their processes would.
fn register(world: &World, agent: &Agent, ids: &[String]) -> Vec<dispatch::Agent> {
    let group = world.group("scorer");
    ids.iter()
        .map(|id| {
            // One process, one uuid: the replica's id does.
            let uuid: &'static str = Box::leak(id.clone().into_boxed_str());
            let mut entry = dispatch::Entry::new(uuid, 5);
            entry.hosted = Some((agent.id, id.parse().expect("an id")));
            entry.join(&group)
        })
        .collect()
}

/// Deploys, builds and brings `count` replicas up.
async fn running(
    world: &World,
    host: &mut HostDouble,
    count: u32,
) -> (Agent, Vec<dispatch::Agent>) {
    let agent = world.deploy(b"one", count).await;
    world.reconcile(&agent).await;
    assert_eq!(host.build("succeeded", "").await, 1);
    world.reconcile(&agent).await;
    let sessions = bring_up(world, host, &agent).await;
    assert_eq!(world.status(&agent).await, "Ready");
    (agent, sessions)
}

/// Brings up what the host should run and does not.
async fn bring_up(world: &World, host: &mut HostDouble, agent: &Agent) -> Vec<dispatch::Agent> {
    let wanted = host.wanted(Wanted::Run).await;
    let rows = world.replicas(agent).await;
    let pending = |id: &String| {
        let row = rows.iter().find(|r| r.id.to_string() == *id);
        row.is_some_and(|r| r.observed.phase == ReplicaPhase::Pending)
    };
    let fresh: Vec<String> = wanted.into_iter().filter(pending).collect();
    host.say(&fresh, "running").await;
    let sessions = register(world, agent, &fresh);
    world.reconcile(agent).await;
    sessions
}

/// Stops what the host should stop.
async fn bring_down(world: &World, host: &mut HostDouble, agent: &Agent) -> usize {
    let stopped = host.wanted(Wanted::Stop).await;
    host.say(&stopped, "stopped").await;
    world.reconcile(agent).await;
    stopped.len()
}

#[tokio::test]
async fn a_deployment_is_built_then_placed_then_ready() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let agent = world.deploy(b"one", 2).await;
    world.reconcile(&agent).await;
    assert_eq!(world.status(&agent).await, "Building");
    assert_eq!(
        world.replicas(&agent).await,
        [],
        "there is nothing to run yet"
    );
    assert_eq!(host.build("running", "").await, 1, "one build for both");
    world.reconcile(&agent).await;
    assert_eq!(world.status(&agent).await, "Building");
    host.build("succeeded", "").await;
    world.reconcile(&agent).await;
    assert_eq!(world.status(&agent).await, "Starting");
    let wanted = host.wanted(Wanted::Run).await;
    assert_eq!(wanted.len(), 2);
    host.say(&wanted, "running").await;
    world.reconcile(&agent).await;
    assert_eq!(world.status(&agent).await, "Starting NotRegistered");
    let _first = register(&world, &agent, &wanted[..1]);
    world.reconcile(&agent).await;
    assert_eq!(world.status(&agent).await, "Degraded");
    let _second = register(&world, &agent, &wanted[1..]);
    world.reconcile(&agent).await;
    assert_eq!(world.status(&agent).await, "Ready");
}

#[tokio::test]
async fn a_failed_build_is_told_and_tried_again_only_when_somebody_asks() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let agent = world.deploy(b"one", 1).await;
    world.reconcile(&agent).await;
    host.build("failed", "BuildFailed").await;
    world.reconcile(&agent).await;
    assert_eq!(world.status(&agent).await, "Failed BuildFailed");
    assert_eq!(host.desired().await.builds, []);
    world.deploy(b"one", 1).await;
    world.reconcile(&agent).await;
    assert_eq!(host.build("succeeded", "").await, 1);
    world.reconcile(&agent).await;
    assert_eq!(world.status(&agent).await, "Starting");
}

#[tokio::test]
async fn without_a_host_an_agent_is_unschedulable_until_one_joins() {
    let world = World::new().await;
    let agent = world.deploy(b"one", 1).await;
    world.reconcile(&agent).await;
    assert_eq!(
        world.status(&agent).await,
        "Pending",
        "one may be about to join"
    );
    world.app.clock.advance(world.app.limits.lease_ttl);
    world.reconcile(&agent).await;
    assert_eq!(world.status(&agent).await, "Failed Unschedulable");
    let mut host = world.host("one").await;
    assert!(world.app.dirty.take().contains(&(agent.tenant, agent.id)));
    world.reconcile(&agent).await;
    assert_eq!(world.status(&agent).await, "Building");
    assert_eq!(host.desired().await.builds.len(), 1);
}

#[tokio::test]
async fn scaling_adds_and_removes_and_zero_is_a_state_of_its_own() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let (agent, _one) = running(&world, &mut host, 1).await;
    let scale = async |count| {
        let scaled = world
            .app
            .scale_agent(&world.admin, "scorer", count, Receipt::none())
            .await;
        scaled.expect("it is scaled");
        world.reconcile(&agent).await;
    };
    scale(3).await;
    assert_eq!(host.desired().await.builds, [], "it is prepared already");
    let _more = bring_up(&world, &mut host, &agent).await;
    assert_eq!(world.status(&agent).await, "Ready");
    scale(1).await;
    assert_eq!(host.wanted(Wanted::Run).await.len(), 1);
    assert_eq!(bring_down(&world, &mut host, &agent).await, 2);
    scale(0).await;
    assert_eq!(host.wanted(Wanted::Run).await, Vec::<String>::new());
    assert_eq!(world.status(&agent).await, "Ready ScaledToZero");
}

#[tokio::test]
async fn an_update_never_leaves_fewer_ready_than_wanted() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let (agent, _old) = running(&world, &mut host, 2).await;
    let old = host.wanted(Wanted::Run).await;
    world.deploy(b"two", 2).await;
    world.reconcile(&agent).await;
    assert_eq!(
        host.wanted(Wanted::Run).await,
        old,
        "nothing goes before the build"
    );
    host.build("succeeded", "").await;
    world.reconcile(&agent).await;
    assert_eq!(
        host.wanted(Wanted::Run).await.len(),
        3,
        "one more than wanted"
    );
    assert_eq!(world.status(&agent).await, "Ready RollingOut");
    let _first = bring_up(&world, &mut host, &agent).await;
    assert_eq!(bring_down(&world, &mut host, &agent).await, 1);
    let _second = bring_up(&world, &mut host, &agent).await;
    bring_down(&world, &mut host, &agent).await;
    let now = host.wanted(Wanted::Run).await;
    assert_eq!(now.len(), 2);
    assert!(now.iter().all(|id| !old.contains(id)));
    assert_eq!(world.status(&agent).await, "Ready");
}

#[tokio::test]
async fn a_deletion_waits_for_what_runs_and_then_leaves_nothing() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let (agent, mut sessions) = running(&world, &mut host, 1).await;
    let replica = host.wanted(Wanted::Run).await;
    let (_, mut reply) = dispatch::submit(&sessions[0].group, "score");
    let task = sessions[0].next_task();
    let drain = Duration::from_secs(60);
    let deleted = world
        .app
        .delete_agent(&world.admin, "scorer", drain, Receipt::none())
        .await;
    deleted.expect("it is being deleted");
    world.reconcile(&agent).await;
    assert_eq!(world.status(&agent).await, "Draining");
    assert_eq!(
        host.wanted(Wanted::Run).await,
        replica,
        "it has work in hand"
    );
    sessions[0].finish(&task, 1);
    assert_eq!(dispatch::outcome(&mut reply), "ok");
    world.reconcile(&agent).await;
    assert_eq!(host.wanted(Wanted::Stop).await, replica);
    host.say(&replica, "stopped").await;
    world.reconcile(&agent).await;
    assert_eq!(world.agent(&agent).await, None);
    let desired = host.desired().await;
    assert_eq!(
        (desired.replicas, desired.forget_replicas),
        (vec![], replica)
    );
    assert_eq!(host.desired().await.forget_replicas, Vec::<String>::new());
}

#[tokio::test]
async fn a_drain_has_an_end() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let (agent, mut sessions) = running(&world, &mut host, 1).await;
    let _call = dispatch::submit(&sessions[0].group, "score");
    let _task = sessions[0].next_task();
    let drain = Duration::from_secs(60);
    let deleted = world
        .app
        .delete_agent(&world.admin, "scorer", drain, Receipt::none())
        .await;
    deleted.expect("it is being deleted");
    world.reconcile(&agent).await;
    world.app.clock.advance(drain);
    world.reconcile(&agent).await;
    assert_eq!(host.wanted(Wanted::Stop).await.len(), 1);
}

#[tokio::test]
async fn a_deletion_before_anything_ran_needs_no_host() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let agent = world.deploy(b"one", 1).await;
    world.reconcile(&agent).await;
    assert_eq!(host.desired().await.builds.len(), 1);
    let deleted = world
        .app
        .delete_agent(&world.admin, "scorer", Duration::ZERO, Receipt::none());
    deleted.await.expect("it is being deleted");
    world.reconcile(&agent).await;
    assert_eq!(world.agent(&agent).await, None);
    assert_eq!(host.desired().await.builds, []);
}

#[tokio::test]
async fn a_replica_that_its_host_has_no_record_of_is_lost_and_replaced() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let (agent, _sessions) = running(&world, &mut host, 1).await;
    let lost = host.wanted(Wanted::Run).await;
    let mut host = host
        .again(v1::Observed {
            complete: true,
            ..v1::Observed::default()
        })
        .await;
    world.reconcile(&agent).await;
    let rows = world.replicas(&agent).await;
    let row = rows.iter().find(|r| r.id.to_string() == lost[0]);
    let row = row.expect("its logs may still be there");
    assert_eq!(
        (row.observed.phase, row.want),
        (ReplicaPhase::Lost, Want::Stop)
    );
    let wanted = host.wanted(Wanted::Run).await;
    assert!(wanted.len() == 1 && wanted != lost);
    assert_eq!(world.group("scorer").size().0, 0, "its lease ended with it");
}

#[tokio::test]
async fn dead_replicas_are_kept_for_their_logs_and_then_forgotten_on_their_host() {
    let limits = Limits {
        dead_replicas_kept: 1,
        ..Limits::default()
    };
    let world = World::with(limits).await;
    let mut host = world.host("one").await;
    let (agent, _sessions) = running(&world, &mut host, 3).await;
    let scaled = world
        .app
        .scale_agent(&world.admin, "scorer", 0, Receipt::none())
        .await;
    scaled.expect("it is scaled");
    world.reconcile(&agent).await;
    let dead = host.wanted(Wanted::Stop).await;
    host.say(&dead, "stopped").await;
    world.reconcile(&agent).await;
    let kept = world.replicas(&agent).await;
    assert_eq!(kept.len(), 1);
    let mut told = host.desired().await.forget_replicas;
    told.push(kept[0].id.to_string());
    told.sort_unstable();
    let mut dead = dead;
    dead.sort_unstable();
    assert_eq!(told, dead);
}

#[tokio::test]
async fn a_host_that_was_away_is_told_what_to_forget_when_it_comes_back() {
    let world = World::new().await;
    let host = world.host("one").await;
    let stranger = ReplicaId::new(crate::testing::start(), [9; 10]);
    let stranger = stranger.to_string();
    let report = v1::Observed {
        complete: true,
        replicas: vec![observed(&stranger, "stopped")],
        ..v1::Observed::default()
    };
    let mut host = host.again(report).await;
    assert_eq!(host.desired().await.forget_replicas, [stranger]);
}

#[tokio::test]
async fn a_build_that_ended_meanwhile_stays_ended() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let agent = world.deploy(b"one", 1).await;
    world.reconcile(&agent).await;
    host.build("running", "").await;
    let deleted = world
        .app
        .delete_agent(&world.admin, "scorer", Duration::ZERO, Receipt::none());
    deleted.await.expect("it is being deleted");
    let snapshot = snapshot::read(&world.app, agent.tenant, agent.id).await;
    let snapshot = snapshot.expect("it works").expect("the agent is there");
    host.build("succeeded", "").await;
    let changes = Changes {
        cancel: decided(&world, &snapshot).cancel,
        ..Changes::default()
    };
    let build = changes.cancel[0];
    let written = write(&world.app, &snapshot, &changes).await;
    assert!(written.expect("the store works"));
    let mut tx = world.app.store.read(agent.tenant).await.expect("it works");
    let build = parallax_store::builds::get(&mut tx, build).await;
    let build = build.expect("it works").expect("the build is there");
    assert_eq!(
        (build.phase, build.cancel_requested),
        (BuildPhase::Succeeded, false)
    );
}

fn decided(world: &World, snapshot: &Snapshot) -> Changes {
    rules::decide(snapshot, world.app.clock.now(), &mut random)
}

/// The host gives up its only build.
async fn give_up_the_build(host: &mut HostDouble) {
    let kept = host.kept.pop().expect("it has built").build_id;
    let ids = crate::app::hosts::build_ids(&[kept]).expect("it is an id");
    let told = host.app.builds_removed(&host.connection, ids).await;
    told.expect("the store works");
}

#[tokio::test]
async fn nothing_is_placed_on_a_build_that_went_while_a_place_was_looked_for() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let agent = world.deploy(b"one", 1).await;
    world.reconcile(&agent).await;
    host.build("succeeded", "").await;
    let snapshot = snapshot::read(&world.app, agent.tenant, agent.id).await;
    let snapshot = snapshot.expect("it works").expect("the agent is there");
    let changes = decided(&world, &snapshot);
    assert_eq!(changes.create.len(), 1);
    give_up_the_build(&mut host).await;
    let written = write(&world.app, &snapshot, &changes).await;
    assert!(!written.expect("the store works"));
    assert_eq!(world.replicas(&agent).await, []);
    world.reconcile(&agent).await;
    assert_eq!(host.build("succeeded", "").await, 1, "it is made again");
    world.reconcile(&agent).await;
    assert_eq!(host.wanted(Wanted::Run).await.len(), 1);
}

#[tokio::test]
async fn a_replica_that_waits_for_a_build_which_nobody_makes_gives_way_to_one_that_has_it_made() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let agent = world.deploy(b"one", 2).await;
    world.reconcile(&agent).await;
    host.build("succeeded", "").await;
    world.reconcile(&agent).await;
    let placed = host.wanted(Wanted::Run).await;
    host.say(&placed[..1], "backoff").await;
    give_up_the_build(&mut host).await;
    world.reconcile(&agent).await;
    assert_eq!(host.wanted(Wanted::Stop).await, placed[1..]);
    host.say(&placed[..1], "preparing").await;
    world.reconcile(&agent).await;
    assert_eq!(host.wanted(Wanted::Run).await, Vec::<String>::new());
    assert_eq!(host.build("succeeded", "").await, 1, "it is made again");
    world.reconcile(&agent).await;
    assert_eq!(host.wanted(Wanted::Run).await.len(), 2);
}

#[tokio::test]
async fn an_update_cancels_the_build_that_it_replaces() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let agent = world.deploy(b"one", 1).await;
    world.reconcile(&agent).await;
    host.build("running", "").await;
    world.deploy(b"two", 1).await;
    world.reconcile(&agent).await;
    let builds = host.desired().await.builds;
    let cancelled = builds.iter().filter(|b| b.cancel).count();
    assert_eq!((builds.len(), cancelled), (2, 1));
}

#[tokio::test]
async fn a_suspended_agent_runs_nothing() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let (agent, _sessions) = running(&world, &mut host, 2).await;
    let spec = parallax_core::manifest::AgentSpec::named(crate::testing::name("scorer"));
    assert!(world.deploy_as(spec, None, true).await.suspended);
    world.reconcile(&agent).await;
    assert_eq!(bring_down(&world, &mut host, &agent).await, 2);
    assert_eq!(world.status(&agent).await, "Suspended");
}
