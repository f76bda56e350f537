//! What a status says of what is not there at the moment.

use super::*;

async fn world(lease_ttl: Duration) -> World {
    let limits = Limits {
        lease_ttl,
        ..Limits::default()
    };
    World::with(limits).await
}

/// Long enough for every test to be over before it is.
const LONG: Duration = Duration::from_secs(3600);

async fn restarted(world: World) -> World {
    world.app.clock.advance(Duration::from_secs(1));
    let world = world.restart().await;
    world.app.clock.advance(Duration::from_secs(1));
    world
}

/// What its host has running: one replica for each row.
async fn all_running(world: &World, agent: &Agent) -> v1::Observed {
    let rows = world.replicas(agent).await;
    let replicas = rows
        .iter()
        .map(|row| observed(&row.id.to_string(), "running"));
    v1::Observed {
        complete: true,
        replicas: replicas.collect(),
        ..v1::Observed::default()
    }
}

async fn status_of(world: &World, agent: &Agent) -> Status {
    world.agent(agent).await.expect("it is there").status
}

fn broken(status: &Status) -> Vec<&str> {
    let broken = status.conditions.iter().filter(|c| !c.holds);
    broken.map(|c| c.kind.as_str()).collect()
}

#[tokio::test]
async fn after_a_start_a_status_stays_as_it_was_until_who_was_there_had_time_to_come_back() {
    let world = world(LONG).await;
    let mut host = world.host("one").await;
    let (agent, sessions) = running(&world, &mut host, 2).await;
    let before = status_of(&world, &agent).await;
    drop(sessions);
    let world = restarted(world).await;
    world.reconcile(&agent).await;
    let unheard = status_of(&world, &agent).await;
    assert_eq!(broken(&unheard), ["HostConnected"]);
    let words = &unheard.conditions[0].message;
    assert!(
        words.contains("`one` has not been heard since this server was started"),
        "{words}"
    );
    let but_for_conditions = Status {
        conditions: Vec::new(),
        ..unheard
    };
    let mut carried_over = before.clone();
    carried_over.carry_over();
    assert_eq!(
        (
            carried_over.replicas.ready,
            carried_over.replicas.unconfirmed
        ),
        (0, 2)
    );
    assert_eq!(but_for_conditions, carried_over);
    // The host is back, its agents are not.
    let report = all_running(&world, &agent).await;
    let mut host = host.at(&world, report).await;
    world.reconcile(&agent).await;
    let half = status_of(&world, &agent).await;
    assert_eq!(
        (half.phase, broken(&half)),
        (before.phase, vec!["AgentConnected"])
    );
    let ids = host.wanted(Wanted::Run).await;
    let _sessions = register(&world, &agent, &ids);
    world.reconcile(&agent).await;
    assert_eq!(status_of(&world, &agent).await, before);
}

#[tokio::test]
async fn an_agent_without_replicas_does_not_fail_for_want_of_a_host_that_was_here_a_moment_ago() {
    for (ttl, expected) in [(LONG, "Pending"), (Duration::ZERO, "Failed Unschedulable")] {
        let world = world(ttl).await;
        let host = world.host("one").await;
        let agent = world.deploy(b"one", 1).await;
        let world = restarted(world).await;
        world.reconcile(&agent).await;
        assert_eq!(world.status(&agent).await, expected, "{ttl:?}");
        let host = host.at(&world, v1::Observed::default()).await;
        world.reconcile(&agent).await;
        assert_eq!(world.status(&agent).await, "Building");
        // The same without a start.
        world.app.hosts.leave(&host.connection);
        world.app.host_left(&host.connection).await;
        world.reconcile(&agent).await;
        let expected = expected.replace("Pending", "Building");
        assert_eq!(world.status(&agent).await, expected, "{ttl:?}");
    }
}

#[tokio::test]
async fn a_host_that_stays_away_is_lost_with_its_last_sign_of_life() {
    for (ttl, expected) in [(LONG, "Ready"), (Duration::ZERO, "Failed HostLost")] {
        let world = world(ttl).await;
        let mut host = world.host("one").await;
        let (agent, sessions) = running(&world, &mut host, 1).await;
        for session in &sessions {
            session.group.leave(session.slot);
        }
        world.app.hosts.leave(&host.connection);
        world.app.host_left(&host.connection).await;
        world.reconcile(&agent).await;
        assert_eq!(world.status(&agent).await, expected, "{ttl:?}");
        let status = status_of(&world, &agent).await;
        assert_eq!(broken(&status), ["HostConnected"]);
        if expected != "Ready" {
            let words = "host `one` was last heard of at 2026-";
            assert!(status.message.starts_with(words), "{}", status.message);
        }
        assert_eq!(world.replicas(&agent).await.len(), 1, "it may go on there");
    }
}

#[tokio::test]
async fn a_host_that_is_away_loses_nothing_and_says_so() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let (agent, _sessions) = running(&world, &mut host, 1).await;
    let before = world.replicas(&agent).await;
    world.app.hosts.leave(&host.connection);
    world.app.host_left(&host.connection).await;
    world.reconcile(&agent).await;
    assert_eq!(world.replicas(&agent).await, before);
    let status = status_of(&world, &agent).await;
    assert_eq!(
        status.phase.as_str(),
        "Ready",
        "its agent is still connected"
    );
    assert_eq!(broken(&status), ["HostConnected"]);
    let report = all_running(&world, &agent).await;
    let _back = host.again(report).await;
    world.reconcile(&agent).await;
    assert_eq!(status_of(&world, &agent).await.conditions, []);
    assert_eq!(world.replicas(&agent).await.len(), 1);
}

#[tokio::test]
async fn replicas_that_may_come_back_after_a_start_are_not_stopped() {
    for (ttl, kept) in [(LONG, 1), (Duration::ZERO, 0)] {
        let world = world(ttl).await;
        let mut host = world.host("one").await;
        let (agent, sessions) = running(&world, &mut host, 1).await;
        drop(sessions);
        let world = restarted(world).await;
        let report = all_running(&world, &agent).await;
        let mut host = host.at(&world, report).await;
        // In the middle of an update.
        world.deploy(b"two", 1).await;
        world.reconcile(&agent).await;
        let left = host.wanted(Wanted::Run).await.len();
        assert_eq!(left, kept, "with a lease of {ttl:?}");
    }
}

#[tokio::test]
async fn a_call_just_after_a_start_is_told_that_instances_are_reconnecting() {
    for (ttl, first_start, stranger) in [
        (LONG, false, "agent_unavailable"),
        (LONG, true, "not_found"),
        (Duration::ZERO, false, "not_found"),
    ] {
        let mut world = world(ttl).await;
        if !first_start {
            let now = world.app.clock.now();
            let connected = world
                .app
                .store
                .write(world.admin.tenant, (), move |tx, ()| {
                    Box::pin(
                        async move { parallax_store::instances::next_epoch(tx, "a", now).await },
                    )
                });
            connected.await.expect("it works");
            world = restarted(world).await;
        }
        world.deploy(b"one", 1).await;
        let told = ttl == LONG && !first_start;
        for (name, expected) in [("scorer", "agent_unavailable"), ("stranger", stranger)] {
            let mut request = World::submission(None).request;
            request.agent = name.to_owned();
            let refused = world.app.invoke(&world.admin, request).await;
            let refused = refused.err().expect("nobody is connected");
            assert_eq!(refused.code.as_str(), expected, "{refused}");
            let words = refused.message.contains("instances are reconnecting");
            assert_eq!(words, told, "{refused}");
        }
        // A durable task of a deployed agent waits; whoever nobody knows of is told the same.
        let mut submission = World::submission(None);
        submission.request.agent = "stranger".to_owned();
        let refused = world.app.submit_task(&world.admin, submission).await;
        assert_eq!(refused.expect_err("unknown").code.as_str(), stranger);
    }
}

/// Polls what the reconciler has written until it is `expected`. The reconciler looks at everything
/// each ten seconds anyway: the patience here is less.
async fn until_status(world: &World, agent: &Agent, expected: &str) {
    let poll = async {
        while world.status(agent).await != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let reached = tokio::time::timeout(EVERYTHING_EVERY / 2, poll).await;
    reached.unwrap_or_else(|_| panic!("it did not become {expected}"));
}

#[tokio::test]
async fn what_is_carried_over_ends_with_the_lease_and_not_with_the_next_look_at_everything() {
    let world = world(Duration::from_millis(300)).await;
    let mut host = world.host("one").await;
    let (agent, sessions) = running(&world, &mut host, 2).await;
    drop(sessions);
    let world = restarted(world).await;
    world.app.tasks.spawn(run(Arc::clone(&world.app)));
    until_status(&world, &agent, "Failed HostLost").await;
    assert!(world.app.looked_at_all.load(Ordering::Acquire));
    let report = all_running(&world, &agent).await;
    let host = host.at(&world, report).await;
    let ids: Vec<String> = world
        .replicas(&agent)
        .await
        .iter()
        .map(|row| row.id.to_string())
        .collect();
    let sessions = register(&world, &agent, &ids);
    world.app.dirty.mark(agent.tenant, agent.id);
    until_status(&world, &agent, "Ready").await;
    // The same when only the host goes.
    for session in &sessions {
        session.group.leave(session.slot);
    }
    world.app.hosts.leave(&host.connection);
    world.app.host_left(&host.connection).await;
    until_status(&world, &agent, "Failed HostLost").await;
    world.app.shutdown.cancel();
    world.app.tasks.close();
    world.app.tasks.wait().await;
}

#[tokio::test]
async fn a_status_of_before_the_start_is_marked_as_that_before_anything_was_looked_at() {
    let world = world(LONG).await;
    let mut host = world.host("one").await;
    let (agent, sessions) = running(&world, &mut host, 2).await;
    drop(sessions);
    let world = restarted(world).await;
    let stored = status_of(&world, &agent).await.replicas;
    assert_eq!((stored.ready, stored.unconfirmed), (2, 0), "it was ready");
    let shown = async || {
        let (app, admin) = (&world.app, &world.admin);
        let one = app.agent(admin, "scorer").await.expect("it is there");
        let all = app
            .list_agents(admin, None, &parallax_store::Page::first(9))
            .await;
        let all = all.expect("it works").items;
        let counts = app.count_agents(admin).await.expect("it works");
        let ready = counts
            .iter()
            .filter(|count| count.phase.as_str() == "Ready")
            .map(|count| (count.unconfirmed, count.agents))
            .collect::<Vec<_>>();
        let replicas = one.summary.agent.status.replicas;
        assert_eq!(replicas, all[0].agent.status.replicas);
        (replicas.ready, replicas.unconfirmed, ready)
    };
    assert_eq!(shown().await, (0, 2, vec![(true, 1)]));
    world.reconcile(&agent).await;
    assert_eq!(shown().await, (0, 2, vec![(true, 1)]));
    let report = all_running(&world, &agent).await;
    let mut host = host.at(&world, report).await;
    let ids = host.wanted(Wanted::Run).await;
    let _sessions = register(&world, &agent, &ids);
    world.reconcile(&agent).await;
    world.app.looked_at_all.store(true, Ordering::Release);
    assert_eq!(shown().await, (2, 0, vec![(false, 1)]));
}

#[tokio::test]
async fn an_agent_that_hangs_or_is_cut_off_is_not_one_that_never_came() {
    let world = world(Duration::from_millis(300)).await;
    let mut host = world.host("one").await;
    let (agent, sessions) = running(&world, &mut host, 1).await;
    world.app.tasks.spawn(run(Arc::clone(&world.app)));
    let session = &sessions[0];
    let heard = world.app.clock.now();
    let peer = session.group.peer(session.slot).expect("it is there");
    let gone = session.group.leave(session.slot);
    world.app.instance_left(&session.group, &peer, gone);
    until_status(&world, &agent, "Starting Disconnected").await;
    // Nothing is reported any more: the time alone makes the difference.
    world.app.clock.advance(Duration::from_millis(300));
    until_status(&world, &agent, "Failed Disconnected").await;
    let said = status_of(&world, &agent).await.message;
    let words = format!("the process runs, and its agent was last heard of at {heard}");
    assert_eq!(said, words);
    let shown = world.app.agent(&world.admin, "scorer").await;
    let replica = &shown.expect("it is there").replicas[0];
    assert_eq!((replica.registered, replica.lost_at), (false, Some(heard)));
    // Its process is started anew, and that one never comes.
    world.app.clock.advance(Duration::from_secs(1));
    let id = world.replicas(&agent).await[0].id.to_string();
    let mut report = observed(&id, "running");
    report.incarnation = 2;
    report.started_unix_us = world.app.clock.now().unix_micros();
    host.report(vec![report]).await;
    until_status(&world, &agent, "Starting NotRegistered").await;
    // One that hangs was last heard of when its lease began.
    let back = register(&world, &agent, &[id]);
    world
        .app
        .instance_changed(&back[0].group, back[0].slot, true);
    until_status(&world, &agent, "Ready").await;
    world.app.clock.advance(Duration::from_secs(1));
    let late = tokio::time::Instant::now() + LONG * 2;
    world
        .app
        .instance_lost(&back[0].group, back[0].slot, Some(late));
    until_status(&world, &agent, "Failed Disconnected").await;
    world.app.shutdown.cancel();
    world.app.tasks.close();
    world.app.tasks.wait().await;
}
