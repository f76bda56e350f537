//! Objects with every field set, so that one that is not stored shows.

use std::time::Duration;

use parallax_core::agent::{Agent, Deletion, ManagedBy, Revision};
use parallax_core::blob::{BlobDigest, BlobRef};
use parallax_core::build::{Build, BuildPhase, build_key};
use parallax_core::event::Subject;
use parallax_core::host::{Host, HostFacts, IsolationMeans};
use parallax_core::id::{AgentId, BuildId, HostId, KeyId, ReplicaId, RevisionId, TaskId, TenantId};
use parallax_core::json::Json;
use parallax_core::key::{ApiKey, Scope};
use parallax_core::manifest::{AgentSpec, IsolationTier};
use parallax_core::name::Name;
use parallax_core::quantity::{CpuMillis, MemoryBytes};
use parallax_core::replica::{Exit, Observation, Replica, ReplicaPhase, Want};
use parallax_core::status::{Condition, Phase, Reason, ReplicaCounts, Status};
use parallax_core::task::{CancelState, Outcome, Payload, Success, Task, TaskContext, TaskState};
use parallax_core::time::Timestamp;
use parallax_store::events::NewEvent;
use parallax_store::tenants::Tenant;

/// The second `n` of the tests' own time.
pub(crate) fn at(n: u8) -> Timestamp {
    Timestamp::from_unix_millis(1_790_000_000_000).plus(Duration::from_secs(n.into()))
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a test uses valid names")
}

pub(crate) fn tenant(n: u8) -> Tenant {
    let id = TenantId::new(at(n), [n; 10]);
    Tenant {
        id,
        name: name(&format!("tenant-{n}")),
        created_at: at(n),
    }
}

pub(crate) fn key(tenant: TenantId, n: u8) -> ApiKey {
    ApiKey {
        tenant,
        id: KeyId::new(at(n), [n; 10]),
        name: name(&format!("key-{n}")),
        hash: vec![n, 0, 255],
        scopes: [Scope::Deploy, Scope::Approve].into_iter().collect(),
        groups: vec![name("leads"), name("ops")],
        host: Some(host_id(n)),
        single_use: false,
        created_at: at(n),
        expires_at: Some(at(200)),
        revoked_at: None,
        last_used_at: Some(at(n + 1)),
    }
}

pub(crate) fn agent(tenant: TenantId, n: u8) -> Agent {
    Agent {
        tenant,
        id: agent_id(n),
        name: name(&format!("agent-{n}")),
        managed_by: ManagedBy::Kubernetes,
        generation: 1,
        replicas: 3,
        revision: Some(revision_id(n)),
        suspended: true,
        delete: Some(Deletion {
            asked_at: at(3),
            drain_until: at(9),
        }),
        status: status(),
        created_at: at(n),
        updated_at: at(n + 1),
    }
}

fn status() -> Status {
    Status {
        phase: Phase::Degraded,
        reason: Some(Reason::CrashLoop),
        message: "exit code 1; last log line: “ça\u{0}ne va pas”".to_owned(),
        since: at(1),
        observed_generation: 7,
        replicas: ReplicaCounts {
            desired: 3,
            unconfirmed: 0,
            ready: 1,
            updated: 2,
        },
        conditions: vec![Condition {
            kind: "Isolated".to_owned(),
            holds: false,
            message: "none".to_owned(),
        }],
    }
}

pub(crate) fn revision(tenant: TenantId, agent: AgentId, n: u8) -> Revision {
    let mut spec = AgentSpec::named(name("scorer"));
    spec.env
        .insert("MODE".to_owned(), "fast \"and\" loud".to_owned());
    let source_digest = format!("sha256:{}", format!("{n:02x}").repeat(32));
    Revision {
        tenant,
        id: revision_id(n),
        agent,
        number: 0,
        build_key: build_key(&source_digest, &spec.build()),
        spec,
        source_digest,
        source_bytes: 12_345,
        created_at: at(n),
        created_by: "key-1".to_owned(),
    }
}

pub(crate) fn build(revision: &Revision, n: u8) -> Build {
    Build {
        tenant: revision.tenant,
        id: BuildId::new(at(n), [n; 10]),
        agent: revision.agent,
        agent_name: name("scorer"),
        host: host_id(1),
        key: revision.build_key.clone(),
        source_digest: revision.source_digest.clone(),
        source_bytes: revision.source_bytes,
        spec: revision.spec.build(),
        phase: BuildPhase::Running,
        reason: Some(Reason::BuildTimedOut),
        message: "npm ci".to_owned(),
        plan_json: Some("{}".to_owned()),
        cached: true,
        cancel_requested: true,
        created_at: at(n),
        started_at: Some(at(n + 1)),
        ended_at: Some(at(n + 2)),
    }
}

pub(crate) fn replica(tenant: TenantId, agent: AgentId, n: u8) -> Replica {
    Replica {
        tenant,
        id: ReplicaId::new(at(n), [n; 10]),
        agent,
        revision: revision_id(n),
        revision_number: 4,
        host: host_id(1),
        build: BuildId::new(at(n), [n; 10]),
        want: Want::Run,
        observed: Observation {
            phase: ReplicaPhase::Backoff,
            reason: Some(Reason::OutOfMemory),
            message: "waits".to_owned(),
            incarnation: 3,
            restarts: 2,
            exit: Some(Exit {
                code: None,
                signal: Some(9),
                out_of_memory: true,
                ended_at: at(5),
                last_log_line: "last".to_owned(),
            }),
            probe_ok: Some(false),
            isolation: "landlock+cgroup1".to_owned(),
            pid: Some(4_000_000_000),
            started_at: Some(at(4)),
        },
        created_at: at(n),
        updated_at: at(n + 1),
    }
}

pub(crate) fn host(tenant: TenantId, n: u8) -> Host {
    let facts = HostFacts {
        kind: "local".to_owned(),
        arch: "x86_64".to_owned(),
        os: "linux".to_owned(),
        cpu: CpuMillis::new(2_000),
        memory: MemoryBytes::new(8 << 30),
        isolation: IsolationMeans::Landlock,
        tiers: vec![IsolationTier::Process],
        limits: "cgroup2".to_owned(),
        builders: vec!["native".to_owned()],
        version: "0.1.0".to_owned(),
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        unsafe_no_isolation: false,
        boot_id: "b".to_owned(),
        max_replicas: 40,
        tools: Vec::new(),
    };
    let (id, name) = (host_id(n), name(&format!("host-{n}")));
    Host {
        tenant,
        id,
        name,
        facts,
        epoch: 5,
        last_seen_at: at(n),
        created_at: at(n),
    }
}

pub(crate) fn task(tenant: TenantId, n: u8) -> Task {
    Task {
        tenant,
        id: TaskId::new(at(n), [n; 10]),
        agent_name: name("scorer"),
        agent: Some(agent_id(1)),
        capability: "score".to_owned(),
        input: Payload::Json(json("{\"text\": \"\\u0000 fine\"}")),
        idempotency_key: Some(format!("request-{n}")),
        request_hash: vec![1, 2, 3],
        state: TaskState::Queued,
        cancel: CancelState::Unresolved,
        attempt: 0,
        instance_uuid: Some("i-1".to_owned()),
        context: TaskContext {
            traceparent: "00".to_owned(),
            ..TaskContext::default()
        },
        outcome: Some(Outcome::Success(Success::of(Payload::Json(json(
            "[1.0, \"\\u0000\"]",
        ))))),
        caller: "key-1".to_owned(),
        deadline: Some(at(100)),
        not_before: Some(at(2)),
        created_at: at(n),
        updated_at: at(n),
    }
}

fn json(text: &'static str) -> Json {
    Json::parse(text.to_owned().into()).expect("well-formed")
}

pub(crate) fn blob() -> Payload {
    Payload::Blob(BlobRef {
        digest: BlobDigest::of_sha256([7; 32]),
        size_bytes: 1 << 20,
        media_type: "application/json".to_owned(),
    })
}

pub(crate) fn event(n: u8, subject_id: &str) -> NewEvent {
    NewEvent {
        at: at(n),
        subject: Subject::Agent,
        subject_id: subject_id.to_owned(),
        kind: "phase_changed".to_owned(),
        message: format!("event {n}"),
        data_json: "{\"phase\":\"Ready\"}".to_owned(),
    }
}

pub(crate) fn agent_id(n: u8) -> AgentId {
    AgentId::new(at(n), [n; 10])
}

pub(crate) fn revision_id(n: u8) -> RevisionId {
    RevisionId::new(at(n), [n; 10])
}

pub(crate) fn host_id(n: u8) -> HostId {
    HostId::new(at(n), [n; 10])
}
