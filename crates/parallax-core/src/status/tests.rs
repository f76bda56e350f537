use super::*;
use crate::id::{AgentId, BuildId, HostId, ReplicaId, RevisionId, TenantId};
use crate::manifest::AgentSpec;
use crate::replica::{Exit, Observation};

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
    one.replica.observed.reason = Some(Reason::ProbeFailed);
    assert_eq!(
        status_of(1, &[], &[one]),
        (Phase::Failed, Some(Reason::ProbeFailed))
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
            conditions: &[],
        };
        derive(&evidence, &Status::pending(at(0)), at(1)).reason
    };
    assert_eq!(reason(&nowhere(true)), Some(Reason::IsolationUnavailable));
    assert_eq!(reason(&nowhere(false)), Some(Reason::Unschedulable));
}
