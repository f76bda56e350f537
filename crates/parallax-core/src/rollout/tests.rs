use super::*;
use crate::id::{AgentId, BuildId, HostId, TenantId};
use crate::replica::{Observation, Replica, ReplicaPhase};
use crate::time::Timestamp;

fn at(n: u8) -> Timestamp {
    Timestamp::from_unix_millis(i64::from(n))
}

fn revision(n: u8) -> RevisionId {
    RevisionId::new(at(n), [n; 10])
}

fn replica(n: u8, of: u8, phase: ReplicaPhase, registered: bool) -> ReplicaEvidence {
    let replica = Replica {
        tenant: TenantId::new(at(0), [0; 10]),
        id: ReplicaId::new(at(n), [n; 10]),
        agent: AgentId::new(at(0), [0; 10]),
        revision: revision(of),
        revision_number: u64::from(of),
        host: HostId::new(at(0), [0; 10]),
        build: BuildId::new(at(0), [0; 10]),
        want: Want::Run,
        observed: Observation {
            phase,
            ..Observation::nothing_yet()
        },
        created_at: at(n),
        updated_at: at(n),
    };
    ReplicaEvidence {
        replica,
        registered,
        lost_at: None,
        contact: crate::host::Contact::Connected,
    }
}

fn ready_replica(n: u8, of: u8) -> ReplicaEvidence {
    replica(n, of, ReplicaPhase::Running, true)
}

#[test]
fn a_first_deployment_creates_all_replicas_at_once() {
    assert_eq!(
        plan(3, revision(1), &[]),
        Steps {
            create: 3,
            stop: vec![]
        }
    );
}

#[test]
fn an_update_brings_up_one_replica_before_it_stops_one() {
    let old = [ready_replica(1, 1), ready_replica(2, 1)];
    assert_eq!(
        plan(2, revision(2), &old),
        Steps {
            create: 1,
            stop: vec![]
        }
    );

    let mut during = old.to_vec();
    during.push(replica(3, 2, ReplicaPhase::Running, false));
    assert_eq!(plan(2, revision(2), &during), Steps::default());

    during[2].registered = true;
    let steps = plan(2, revision(2), &during);
    assert_eq!((steps.create, steps.stop.len()), (0, 1));
}

#[test]
fn an_old_replica_that_does_not_serve_goes_at_once() {
    let replicas = [replica(1, 1, ReplicaPhase::Backoff, false)];
    let steps = plan(1, revision(2), &replicas);
    assert_eq!(
        steps,
        Steps {
            create: 1,
            stop: vec![replicas[0].replica.id]
        }
    );
}

#[test]
fn scaling_down_prefers_replicas_that_do_not_serve_and_then_the_youngest() {
    let replicas = [
        ready_replica(1, 1),
        replica(2, 1, ReplicaPhase::Starting, false),
        ready_replica(3, 1),
    ];
    let steps = plan(1, revision(1), &replicas);
    assert_eq!(
        steps,
        Steps {
            create: 0,
            stop: vec![replicas[1].replica.id, replicas[2].replica.id]
        }
    );
}

#[test]
fn a_lost_replica_is_replaced() {
    let lost = replica(1, 1, ReplicaPhase::Lost, false);
    let steps = plan(1, revision(1), std::slice::from_ref(&lost));
    assert_eq!(
        steps,
        Steps {
            create: 1,
            stop: vec![lost.replica.id]
        }
    );
}

#[test]
fn every_rollout_converges_and_never_serves_with_fewer_than_wanted() {
    for desired in 0..5_u32 {
        for before in 0..5_u8 {
            let mut replicas: Vec<_> = (0..before).map(|n| ready_replica(n, 1)).collect();
            let floor = desired.min(u32::from(before));
            let mut next = 100;
            for _ in 0..40 {
                let steps = plan(desired, revision(2), &replicas);
                replicas.retain(|e| !steps.stop.contains(&e.replica.id));
                let serving =
                    u32::try_from(replicas.iter().filter(|e| e.is_ready()).count()).expect("few");
                assert!(
                    serving >= floor,
                    "{desired} wanted, {before} before: {serving} serve"
                );
                assert!(
                    replicas.len() as u32 + steps.create <= desired.max(u32::from(before)) + SURGE
                );
                for replica in &mut replicas {
                    replica.registered = true;
                }
                for _ in 0..steps.create {
                    replicas.push(replica(next, 2, ReplicaPhase::Running, false));
                    next += 1;
                }
            }
            assert_eq!(replicas.len() as u32, desired);
            assert!(replicas.iter().all(|e| e.replica.revision == revision(2)));
            assert_eq!(plan(desired, revision(2), &replicas), Steps::default());
        }
    }
}

#[test]
fn a_replica_that_its_host_gave_up_on_is_not_tried_again_until_the_next_revision() {
    let failed = [replica(1, 1, ReplicaPhase::Failed, false)];
    assert_eq!(plan(1, revision(1), &failed), Steps::default());
    let next = plan(1, revision(2), &failed);
    assert_eq!((next.create, next.stop), (1, vec![failed[0].replica.id]));
}
