//! Plans as text: who stops, who drains, what is made, and where.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::agent::{Deletion, ManagedBy};
use crate::build::BuildPhase;
use crate::host::{HostFacts, IsolationMeans};
use crate::id::{AgentId, RevisionId, TenantId};
use crate::manifest::{AgentSpec, IsolationTier};
use crate::quantity::{CpuMillis, MemoryBytes};
use crate::replica::Observation;

fn at(n: u8) -> Timestamp {
    Timestamp::from_unix_millis(i64::from(n))
}

const NOW: u8 = 100;

fn tenant() -> TenantId {
    TenantId::new(at(0), [0; 10])
}

fn agent_id() -> AgentId {
    AgentId::new(at(0), [0; 10])
}

fn host_id(n: u8) -> HostId {
    HostId::new(at(n), [n; 10])
}

fn host(n: u8, contact: Contact) -> HostEvidence {
    let facts = HostFacts {
        kind: "remote".to_owned(),
        arch: "x86_64".to_owned(),
        os: "linux".to_owned(),
        cpu: CpuMillis::new(4000),
        memory: MemoryBytes::new(1 << 30),
        isolation: IsolationMeans::Landlock,
        tiers: vec![IsolationTier::Process],
        limits: "cgroup2".to_owned(),
        builders: Vec::new(),
        version: String::new(),
        labels: BTreeMap::new(),
        unsafe_no_isolation: false,
        boot_id: String::new(),
        max_replicas: 10,
        tools: Vec::new(),
    };
    HostEvidence {
        host: Host {
            tenant: tenant(),
            id: host_id(n),
            name: format!("h{n}").parse().expect("a name"),
            facts,
            epoch: 1,
            last_seen_at: at(7),
            created_at: at(0),
        },
        contact,
        heard: true,
        load: Load::default(),
    }
}

fn revision(n: u8) -> Revision {
    Revision {
        tenant: tenant(),
        id: RevisionId::new(at(n), [n; 10]),
        agent: agent_id(),
        number: u64::from(n),
        spec: AgentSpec::named("a".parse().expect("a name")),
        source_digest: "sha256:00".to_owned(),
        source_bytes: 1,
        build_key: "key".to_owned(),
        created_at: at(0),
        created_by: "admin".to_owned(),
    }
}

fn build(n: u8, on: u8, phase: BuildPhase) -> Build {
    Build {
        tenant: tenant(),
        id: BuildId::new(at(n), [n; 10]),
        agent: agent_id(),
        agent_name: "a".parse().expect("a name"),
        host: host_id(on),
        key: "key".to_owned(),
        source_digest: "sha256:00".to_owned(),
        source_bytes: 1,
        spec: revision(1).spec.build(),
        phase,
        reason: None,
        message: String::new(),
        plan_json: None,
        cached: false,
        cancel_requested: false,
        created_at: at(0),
        started_at: None,
        ended_at: None,
    }
}

/// A replica of revision `of`, on host 1, made of build 1.
fn replica(n: u8, of: u8, phase: ReplicaPhase, registered: bool) -> ReplicaEvidence {
    ReplicaEvidence {
        replica: Replica {
            tenant: tenant(),
            id: ReplicaId::new(at(n), [n; 10]),
            agent: agent_id(),
            revision: revision(of).id,
            revision_number: u64::from(of),
            host: host_id(1),
            build: BuildId::new(at(1), [1; 10]),
            want: Want::Run,
            observed: Observation {
                phase,
                ..Observation::nothing_yet()
            },
            created_at: at(n),
            updated_at: at(n),
        },
        registered,
        lost_at: None,
        contact: Contact::Connected,
    }
}

fn ready(n: u8) -> ReplicaEvidence {
    replica(n, 1, ReplicaPhase::Running, true)
}

fn dead(n: u8) -> ReplicaEvidence {
    let mut dead = replica(n, 1, ReplicaPhase::Stopped, false);
    dead.replica.want = Want::Stop;
    dead
}

/// Two replicas of revision 1 are wanted; host 1 is there and has it built.
fn snapshot(replicas: Vec<ReplicaEvidence>) -> Snapshot {
    Snapshot {
        agent: Agent {
            tenant: tenant(),
            id: agent_id(),
            name: "a".parse().expect("a name"),
            managed_by: ManagedBy::Api,
            generation: 1,
            replicas: 2,
            revision: Some(revision(1).id),
            suspended: false,
            delete: None,
            status: Status::pending(at(0)),
            created_at: at(0),
            updated_at: at(0),
        },
        revision: Some(revision(1)),
        builds: vec![build(1, 1, BuildPhase::Succeeded)],
        outdated: Vec::new(),
        replicas,
        busy: BTreeSet::new(),
        hosts: vec![host(1, Contact::Connected)],
        dead_kept: 1,
        lease: Duration::from_secs(15),
        heard_since: at(0),
    }
}

/// What is decided, in words: `stop 1, create on 1 of build 1`.
fn plan(snapshot: &Snapshot) -> String {
    let mut made = 200;
    let changes = decide(snapshot, at(NOW), &mut || {
        made += 1;
        [made; 10]
    });
    assert_eq!(
        changes.is_nothing(),
        words(&changes).iter().all(|w| {
            // Nothing of this is written.
            w.starts_with("drain") || w.starts_with("nowhere")
        })
    );
    words(&changes).join(", ")
}

fn words(changes: &Changes) -> Vec<String> {
    let replicas = |verb: &str, ids: &[ReplicaId]| {
        let words = ids.iter().map(|id| {
            let known = (1..NOW).find(|n| ReplicaId::new(at(*n), [*n; 10]) == *id);
            format!("{verb} {}", known.expect("it is one of the snapshot's"))
        });
        words.collect::<Vec<_>>()
    };
    let which = |id: HostId| (1..NOW).find(|n| host_id(*n) == id).expect("known");
    let of = |id: BuildId| {
        let known = (1..NOW).find(|n| BuildId::new(at(*n), [*n; 10]) == id);
        known.expect("it is one of the snapshot's")
    };
    let mut words = replicas("stop", &changes.stop);
    words.extend(replicas("drain", &changes.drain));
    words.extend(
        changes
            .create
            .iter()
            .map(|r| format!("create on {} of build {}", which(r.host), of(r.build))),
    );
    let builds = changes.build.iter();
    words.extend(builds.map(|build| format!("build on {}", which(build.host))));
    let cancelled = changes.cancel.iter();
    words.extend(cancelled.map(|id| format!("cancel build {}", of(*id))));
    words.extend(replicas("forget", &changes.forget));
    words.extend(changes.delete_agent.then(|| "delete the agent".to_owned()));
    words.extend(
        changes
            .unschedulable
            .iter()
            .map(|nowhere| format!("nowhere: {}", nowhere.words)),
    );
    words
}

#[test]
fn a_revision_is_built_before_it_is_placed_and_once_per_host() {
    let mut it = snapshot(vec![]);
    assert_eq!(plan(&it), "create on 1 of build 1, create on 1 of build 1");
    it.builds.clear();
    assert_eq!(plan(&it), "build on 1", "one build is enough for both");
    for phase in [BuildPhase::Queued, BuildPhase::Running, BuildPhase::Failed] {
        it.builds = vec![build(1, 1, phase)];
        assert_eq!(plan(&it), "", "{phase} is waited for, or stays failed");
    }
    it.hosts.push(host(2, Contact::Connected));
    it.builds = vec![build(1, 1, BuildPhase::Succeeded)];
    assert_eq!(plan(&it), "create on 1 of build 1, build on 2");
}

#[test]
fn replicas_go_where_the_fewest_are_and_where_there_is_room() {
    let mut it = snapshot(vec![]);
    it.agent.replicas = 3;
    it.hosts.push(host(2, Contact::Connected));
    it.builds.push(build(2, 2, BuildPhase::Succeeded));
    it.hosts[0].load.replicas = 3;
    let all_on_two = ["create on 2 of build 2"; 3].join(", ");
    assert_eq!(plan(&it), all_on_two);
    it.hosts[1].load.memory_bytes = 1 << 30;
    let spec = &mut it.revision.as_mut().expect("there is one").spec;
    spec.resources.memory = Some(MemoryBytes::new(1 << 29));
    assert_eq!(
        plan(&it),
        "create on 1 of build 1, create on 1 of build 1, nowhere: \
         h1: has too little memory left (1Gi of 1Gi reserved); \
         h2: has too little memory left (1Gi of 1Gi reserved)"
    );
}

#[test]
fn a_host_may_still_join_a_server_that_was_just_started() {
    let mut it = snapshot(vec![]);
    it.hosts = vec![];
    let awaited = |it: &Snapshot| {
        let decided = decide(it, at(NOW), &mut || [0; 10]);
        decided.unschedulable.expect("nothing is placed").awaited
    };
    assert!(awaited(&it));
    it.lease = Duration::ZERO;
    assert!(!awaited(&it), "the first lease is over");
}

#[test]
fn without_a_host_that_would_do_the_reason_is_said_of_each() {
    let mut it = snapshot(vec![]);
    it.hosts = vec![];
    it.lease = Duration::ZERO;
    assert_eq!(
        plan(&it),
        "nowhere: no host has joined; start one with `parallax host`"
    );
    let mut full = host(2, Contact::Connected);
    full.load.replicas = 10;
    it.hosts = vec![host(1, Contact::Away), full, host(3, Contact::Awaited)];
    let decided = decide(&it, at(NOW), &mut || [0; 10]);
    let nowhere = decided.unschedulable.expect("nothing is placed");
    assert!(nowhere.awaited, "host 3 may come back and would do");
    let lines: Vec<&str> = nowhere.words.split("; ").collect();
    assert!(
        lines[0].starts_with("h1: not connected, last heard of at 1970"),
        "{lines:?}"
    );
    assert_eq!(lines[1], "h2: is full (10 replicas)");
    assert!(lines[2].starts_with("h3: not heard since"), "{lines:?}");
    it.hosts = vec![host(1, Contact::Connected)];
    let spec = &mut it.revision.as_mut().expect("there is one").spec;
    spec.isolation = IsolationTier::Gvisor;
    let decided = decide(&it, at(NOW), &mut || [0; 10]);
    assert!(decided.unschedulable.expect("refused").isolation_only);
}

#[test]
fn an_update_waits_for_who_may_still_come_back() {
    let update = |contact| {
        let mut old = replica(1, 1, ReplicaPhase::Running, false);
        old.contact = contact;
        let mut it = snapshot(vec![old]);
        it.agent.replicas = 1;
        it.revision = Some(revision(2));
        plan(&it)
    };
    assert_eq!(update(Contact::Connected), "stop 1, create on 1 of build 1");
    assert_eq!(update(Contact::Awaited), "create on 1 of build 1");
}

#[test]
fn a_replica_that_waits_for_a_build_which_is_gone_gives_way() {
    let waiting = |phase| {
        let mut it = snapshot(vec![ready(1), replica(2, 1, phase, false)]);
        it.replicas[1].replica.build = BuildId::new(at(9), [9; 10]);
        plan(&it)
    };
    let expected = "stop 2, create on 1 of build 1";
    assert_eq!(waiting(ReplicaPhase::Pending), expected);
    assert_eq!(waiting(ReplicaPhase::Preparing), expected);
    assert_eq!(waiting(ReplicaPhase::Backoff), "", "it has started once");
}

#[test]
fn a_deletion_drains_who_is_busy_and_ends_when_nothing_runs() {
    let mut it = snapshot(vec![ready(1), ready(2), dead(3)]);
    it.agent.delete = Some(Deletion {
        asked_at: at(0),
        drain_until: at(NOW + 1),
    });
    it.busy = [it.replicas[1].replica.id].into();
    it.builds.push(build(2, 1, BuildPhase::Running));
    assert_eq!(plan(&it), "stop 1, drain 2, cancel build 2");
    it.builds[1].cancel_requested = true;
    it.replicas[0].replica.want = Want::Stop;
    assert_eq!(plan(&it), "drain 2", "nothing is written twice");
    it.agent.delete = Some(Deletion {
        asked_at: at(0),
        drain_until: at(NOW),
    });
    assert_eq!(plan(&it), "stop 2", "a drain has an end");
    it.replicas = vec![dead(1), dead(2), dead(3)];
    assert_eq!(plan(&it), "forget 1, forget 2, forget 3, delete the agent");
}

#[test]
fn a_suspended_agent_stops_whatever_it_does() {
    let mut it = snapshot(vec![ready(1), ready(2)]);
    it.agent.suspended = true;
    it.busy = [it.replicas[0].replica.id].into();
    assert_eq!(plan(&it), "stop 1, stop 2");
    it.replicas = vec![];
    assert_eq!(plan(&it), "", "and is not placed again");
}

#[test]
fn of_the_dead_the_oldest_are_forgotten() {
    let it = snapshot(vec![dead(1), ready(2), dead(3), ready(4), dead(5)]);
    assert_eq!(plan(&it), "forget 1, forget 3");
}

#[test]
fn builds_of_earlier_revisions_are_cancelled_once() {
    let mut it = snapshot(vec![ready(1), ready(2)]);
    it.outdated = vec![
        build(2, 1, BuildPhase::Running),
        build(3, 1, BuildPhase::Queued),
    ];
    it.outdated[1].cancel_requested = true;
    assert_eq!(plan(&it), "cancel build 2");
}

#[test]
fn who_is_told_is_who_it_concerns() {
    let mut it = snapshot(vec![dead(1), dead(2), ready(3)]);
    for (replica, on) in it.replicas.iter_mut().zip(4..) {
        replica.replica.host = host_id(on);
    }
    it.outdated = vec![build(2, 7, BuildPhase::Running)];
    let changes = decide(&it, at(NOW), &mut || [0; 10]);
    assert_eq!(
        words(&changes).join(", "),
        "create on 1 of build 1, cancel build 2, forget 1"
    );
    let told = it.hosts_concerned(&changes);
    assert_eq!(told, [1, 4, 7].map(host_id).into());
}

#[test]
fn a_status_is_of_after_the_changes() {
    let mut it = snapshot(vec![]);
    it.builds.clear();
    let changes = decide(&it, at(NOW), &mut || [0; 10]);
    assert_eq!(status(&it, &changes, at(NOW)).phase.as_str(), "Building");
    let it = snapshot(vec![ready(1), ready(2)]);
    let is = status(&it, &Changes::default(), at(NOW));
    assert_eq!((is.phase.as_str(), is.conditions), ("Ready", vec![]));
}

#[test]
fn a_status_names_what_was_not_seen_and_what_is_not_kept_apart() {
    let mut it = snapshot(vec![ready(1), ready(2)]);
    it.hosts[0].contact = Contact::Awaited;
    let said = |it: &Snapshot| {
        let status = status(it, &Changes::default(), at(NOW));
        let said = status.conditions.iter();
        said.map(|c| format!("{} {}: {}", c.kind, c.holds, c.message))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        said(&it),
        [
            "HostConnected false: host `h1` lost its connection a moment ago; what is shown of 2 \
          replicas is what was last observed"
        ]
    );
    it.hosts[0].contact = Contact::Connected;
    it.replicas[0].replica.observed.isolation = "none+cgroup2".to_owned();
    assert_eq!(
        said(&it),
        ["Isolated false: a host runs this agent without isolation (--unsafe-no-isolation)"]
    );
}
