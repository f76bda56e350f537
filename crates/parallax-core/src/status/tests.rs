use super::*;
use crate::id::{AgentId, BuildId, HostId, ReplicaId, RevisionId, TenantId};
use crate::manifest::AgentSpec;
use crate::replica::{Exit, Observation};

const LEASE: Duration = Duration::from_millis(15);

fn at(n: i64) -> Timestamp {
    Timestamp::from_unix_millis(n)
}

fn replica(phase: ReplicaPhase, registered: bool) -> ReplicaEvidence {
    let replica = Replica {
        tenant: TenantId::new(at(0), [0; 10]),
        id: ReplicaId::new(at(0), [0; 10]),
        agent: AgentId::new(at(0), [0; 10]),
        revision: RevisionId::new(at(0), [0; 10]),
        revision_number: 1,
        host: HostId::new(at(0), [0; 10]),
        build: BuildId::new(at(0), [0; 10]),
        want: Want::Run,
        observed: Observation {
            phase,
            ..Observation::nothing_yet()
        },
        created_at: at(0),
        updated_at: at(0),
    };
    ReplicaEvidence {
        replica,
        registered,
        lost_at: None,
        contact: Contact::Connected,
    }
}

fn build(phase: BuildPhase) -> Build {
    let spec = AgentSpec::named("a".parse().expect("a name")).build();
    Build {
        tenant: TenantId::new(at(0), [0; 10]),
        id: BuildId::new(at(0), [0; 10]),
        agent: AgentId::new(at(0), [0; 10]),
        agent_name: "a".parse().expect("a name"),
        host: HostId::new(at(0), [0; 10]),
        key: String::new(),
        source_digest: String::new(),
        source_bytes: 0,
        spec,
        phase,
        reason: None,
        message: "npm ci: exit code 1".to_owned(),
        plan_json: None,
        cached: false,
        cancel_requested: false,
        created_at: at(0),
        started_at: None,
        ended_at: None,
    }
}

fn status_of(
    desired: u32,
    builds: &[Build],
    replicas: &[ReplicaEvidence],
) -> (Phase, Option<Reason>) {
    let evidence = Evidence {
        generation: 1,
        desired,
        suspended: false,
        deleting: false,
        revision_number: Some(1),
        builds,
        replicas,
        unschedulable: None,
        lease: LEASE,
        heard_since: at(0),
        away: "",
        conditions: &[],
    };
    let status = derive(&evidence, &Status::pending(at(0)), at(1));
    (status.phase, status.reason)
}

#[test]
fn a_running_process_that_has_not_registered_is_not_ready() {
    let replicas = [replica(ReplicaPhase::Running, false)];
    assert_eq!(
        status_of(1, &[], &replicas),
        (Phase::Starting, Some(Reason::NotRegistered))
    );
}

#[test]
fn a_failing_probe_keeps_a_registered_replica_from_being_ready() {
    let mut one = replica(ReplicaPhase::Running, true);
    one.replica.observed.probe_ok = Some(false);
    assert_eq!(
        status_of(1, &[], &[one]),
        (Phase::Starting, Some(Reason::ProbeFailed))
    );
}

#[test]
fn an_agent_is_ready_only_with_all_replicas() {
    let two = [
        replica(ReplicaPhase::Running, true),
        replica(ReplicaPhase::Starting, false),
    ];
    assert_eq!(status_of(1, &[], &two[..1]), (Phase::Ready, None));
    assert_eq!(status_of(2, &[], &two), (Phase::Degraded, None));
}

#[test]
fn a_crash_loop_shows_its_evidence() {
    let mut one = replica(ReplicaPhase::Backoff, false);
    one.replica.observed.reason = Some(Reason::CrashLoop);
    one.replica.observed.exit = Some(Exit {
        code: Some(3),
        signal: None,
        out_of_memory: false,
        ended_at: at(1),
        last_log_line: "cannot find module".to_owned(),
    });
    let evidence = Evidence {
        generation: 1,
        desired: 1,
        suspended: false,
        deleting: false,
        revision_number: Some(1),
        builds: &[],
        replicas: &[one],
        unschedulable: None,
        lease: LEASE,
        heard_since: at(0),
        away: "",
        conditions: &[],
    };
    let status = derive(&evidence, &Status::pending(at(0)), at(1));
    assert_eq!(
        status.message,
        "exit code 3; last log line: cannot find module"
    );
    assert_eq!(
        (status.phase, status.reason),
        (Phase::Failed, Some(Reason::CrashLoop))
    );
}

#[test]
fn a_build_shows_until_it_ends_and_its_failure_stays() {
    assert_eq!(
        status_of(1, &[build(BuildPhase::Running)], &[]),
        (Phase::Building, None)
    );
    assert_eq!(
        status_of(1, &[build(BuildPhase::Failed)], &[]),
        (Phase::Failed, Some(Reason::BuildFailed))
    );
}

#[test]
fn a_failed_update_degrades_what_still_serves() {
    let mut old = replica(ReplicaPhase::Running, true);
    old.replica.revision_number = 0;
    assert_eq!(
        status_of(1, &[build(BuildPhase::Failed)], &[old]),
        (Phase::Degraded, Some(Reason::BuildFailed))
    );
}

#[test]
fn since_moves_only_with_phase_or_reason() {
    let replicas = [replica(ReplicaPhase::Running, true)];
    let evidence = Evidence {
        generation: 1,
        desired: 1,
        suspended: false,
        deleting: false,
        revision_number: Some(1),
        builds: &[],
        replicas: &replicas,
        unschedulable: None,
        lease: LEASE,
        heard_since: at(0),
        away: "",
        conditions: &[],
    };
    let first = derive(&evidence, &Status::pending(at(0)), at(1));
    let second = derive(&evidence, &first, at(9));
    assert_eq!((first.since, second.since), (at(1), at(1)));
}

#[test]
fn an_isolation_that_no_host_can_give_is_named_as_that() {
    let nowhere = |isolation_only| Unschedulable {
        words: "local: cannot give isolation `gvisor`".to_owned(),
        isolation_only,
        awaited: false,
    };
    let reason = |nowhere: &Unschedulable| {
        let evidence = Evidence {
            generation: 1,
            desired: 1,
            suspended: false,
            deleting: false,
            revision_number: Some(1),
            builds: &[],
            replicas: &[],
            unschedulable: Some(nowhere),
            lease: LEASE,
            heard_since: at(0),
            away: "",
            conditions: &[],
        };
        derive(&evidence, &Status::pending(at(0)), at(1)).reason
    };
    assert_eq!(reason(&nowhere(true)), Some(Reason::IsolationUnavailable));
    assert_eq!(reason(&nowhere(false)), Some(Reason::Unschedulable));
}

/// What is known a moment after a server's start of an agent that was `before`.
fn after_a_start(
    before: Status,
    replicas: &[ReplicaEvidence],
    unschedulable: Option<&Unschedulable>,
) -> Status {
    let evidence = Evidence {
        generation: 1,
        desired: 2,
        suspended: false,
        deleting: false,
        revision_number: Some(1),
        builds: &[],
        replicas,
        unschedulable,
        lease: LEASE,
        heard_since: at(0),
        away: "host `one` was last heard of at noon",
        conditions: &[],
    };
    derive(&evidence, &before, at(9))
}

fn before(phase: Phase, reason: Option<Reason>, ready: u32, message: &str) -> Status {
    Status {
        phase,
        reason,
        message: message.to_owned(),
        observed_generation: 1,
        replicas: ReplicaCounts {
            desired: 2,
            ready,
            unconfirmed: 0,
            updated: 2,
        },
        ..Status::pending(at(0))
    }
}

fn unheard(contact: Contact) -> ReplicaEvidence {
    ReplicaEvidence {
        contact,
        ..replica(ReplicaPhase::Running, false)
    }
}

#[test]
fn what_is_not_known_stays_as_it_was_last_observed() {
    let two = [unheard(Contact::Awaited), unheard(Contact::Awaited)];
    let not_connected = "the process runs, and its agent has not registered";
    for was in [
        before(Phase::Ready, None, 2, ""),
        before(Phase::Degraded, None, 1, "1 of 2 replicas are ready"),
        before(
            Phase::Starting,
            Some(Reason::NotRegistered),
            0,
            not_connected,
        ),
    ] {
        let is = after_a_start(was.clone(), &two, None);
        let message = match was.phase {
            Phase::Degraded => "0 of 2 replicas are ready, 1 more were".to_owned(),
            _ => was.message.clone(),
        };
        let mut expected = Status { message, ..was };
        expected.carry_over();
        assert_eq!(is, expected, "nothing of it is confirmed");
        assert_eq!(after_a_start(is.clone(), &two, None), is, "however often");
    }
}

#[test]
fn what_is_known_counts_whatever_was_before() {
    let ready = before(Phase::Ready, None, 2, "");
    let mut crashed = replica(ReplicaPhase::Backoff, false);
    crashed.replica.observed.reason = Some(Reason::CrashLoop);
    let is = after_a_start(ready, &[crashed, unheard(Contact::Awaited)], None);
    assert_eq!(
        (is.phase, is.reason),
        (Phase::Degraded, Some(Reason::CrashLoop))
    );
    assert_eq!((is.replicas.ready, is.replicas.unconfirmed), (0, 1));
}

#[test]
fn a_host_that_stays_away_fails_what_only_it_can_tell_of() {
    let ready = before(Phase::Ready, None, 2, "");
    let away = [unheard(Contact::Away), unheard(Contact::Away)];
    let is = after_a_start(ready.clone(), &away, None);
    assert_eq!(
        (is.phase, is.reason, is.message.as_str()),
        (
            Phase::Failed,
            Some(Reason::HostLost),
            "host `one` was last heard of at noon"
        )
    );
    let still_here = ReplicaEvidence {
        contact: Contact::Away,
        ..replica(ReplicaPhase::Running, true)
    };
    let is = after_a_start(ready, &[still_here.clone(), still_here], None);
    assert_eq!((is.phase, is.replicas.ready), (Phase::Ready, 2));
}

#[test]
fn an_awaited_host_makes_nothing_unschedulable_and_heals_nothing() {
    let awaited = Unschedulable {
        words: "one: expected back".to_owned(),
        isolation_only: false,
        awaited: true,
    };
    let was = before(Phase::Pending, None, 0, "waiting for a host");
    let is = after_a_start(was, &[], Some(&awaited));
    assert_eq!(
        (is.phase, is.reason, is.message.as_str()),
        (Phase::Pending, None, "one: expected back")
    );
    for phase in [Phase::Failed, Phase::Degraded] {
        let was = before(phase, Some(Reason::Unschedulable), 0, "one: is full");
        let is = after_a_start(was, &[], Some(&awaited));
        assert_eq!(
            (is.phase, is.reason, is.message.as_str()),
            (Phase::Failed, Some(Reason::Unschedulable), "one: is full")
        );
    }
}

#[test]
fn a_restart_says_how_the_process_before_ended() {
    let mut one = replica(ReplicaPhase::Starting, false);
    one.replica.observed.exit = Some(Exit {
        code: None,
        signal: None,
        out_of_memory: true,
        ended_at: at(1),
        last_log_line: "loading the model".to_owned(),
    });
    let end = "restarted after: killed for exceeding its memory limit; \
               last log line: loading the model";
    let message = |replicas: &[ReplicaEvidence]| {
        let is = after_a_start(Status::pending(at(0)), replicas, None);
        assert!(is.phase == Phase::Starting || is.phase == Phase::Degraded);
        is.message
    };
    assert_eq!(message(std::slice::from_ref(&one)), end);
    let beside = [one.clone(), replica(ReplicaPhase::Running, true)];
    let expected = format!("1 of 2 replicas are ready; {end}");
    assert_eq!(message(&beside), expected);
    one.replica.observed.phase = ReplicaPhase::Running;
    let expected = format!("the process runs, and its agent has not registered; {end}");
    assert_eq!(message(&[one]), expected);
}

#[test]
fn an_agent_that_was_connected_is_told_from_one_that_never_came() {
    let of = |started: Option<i64>, lost: Option<i64>, now: i64| {
        let mut one = replica(ReplicaPhase::Running, false);
        one.replica.observed.started_at = started.map(at);
        one.lost_at = lost.map(at);
        let evidence = Evidence {
            generation: 1,
            desired: 1,
            suspended: false,
            deleting: false,
            revision_number: Some(1),
            builds: &[],
            replicas: &[one],
            unschedulable: None,
            lease: LEASE,
            heard_since: at(1000),
            away: "",
            conditions: &[],
        };
        let is = derive(&evidence, &Status::pending(at(0)), at(now));
        let reason = is.reason.map_or("", Reason::as_str);
        format!("{} {reason}: {}", is.phase, is.message)
    };
    let never = "Starting NotRegistered: the process runs";
    assert_eq!(
        of(Some(1500), None, 9000),
        format!(
            "{never} since {}, and its agent has not registered",
            at(1500)
        )
    );
    // Whether it had registered with the server before, nobody knows.
    assert_eq!(
        of(Some(500), None, 9000),
        format!(
            "{never}, and its agent has not registered since this server was started at {}",
            at(1000)
        )
    );
    let lost = format!(
        "Disconnected: the process runs, and its agent was last heard of at {}",
        at(2000)
    );
    assert_eq!(of(Some(1500), Some(2000), 2014), format!("Starting {lost}"));
    assert_eq!(
        of(Some(1500), Some(2000), 2015),
        format!("Failed {lost}"),
        "it had a lease to come back"
    );
}

#[test]
fn beside_one_that_serves_a_lost_agent_degrades() {
    let mut lost = replica(ReplicaPhase::Running, false);
    lost.lost_at = Some(at(-15));
    let both = [replica(ReplicaPhase::Running, true), lost];
    assert_eq!(
        status_of(2, &[], &both),
        (Phase::Degraded, Some(Reason::Disconnected))
    );
}
