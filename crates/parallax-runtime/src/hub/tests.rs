//! What a host does on a machine without means of isolation: no such machine is needed for it.

use std::path::PathBuf;

use parallax_builder::Toolchain;
use parallax_core::id::{AgentId, RevisionId};
use parallax_core::manifest::AgentSpec;
use parallax_core::time::Timestamp;
use parallax_proto::v1::{DesiredBuild, desired_replica};
use parallax_shim::isolation::{CgroupProbe, IsolationProbe};
use parallax_shim::spec::LogLimits;
use tempfile::TempDir;

use super::*;
use crate::build::BuildContext;
use crate::isolation::Sandbox;
use crate::layout::Layout;
use crate::limits::Limiter;
use crate::prepared::PreparedBuilds;

const PROBE: IsolationProbe = IsolationProbe {
    landlock_abi: 0,
    landlock_usable: false,
    bubblewrap: None,
    bubblewrap_refusal: None,
    can_change_uid: false,
    userns: false,
    userns_refusal: None,
    cgroup: CgroupProbe::None,
};

fn born() -> Timestamp {
    Timestamp::from_unix_millis(1_790_000_000_000)
}

fn hub(dir: &TempDir, unsafe_allowed: bool) -> Hub {
    let layout = Layout::create(dir.path()).expect("folders can be made");
    let sandbox = Sandbox::choose(&PROBE, None, unsafe_allowed, &[]).expect("nothing is protected");
    let (sandbox, limiter) = (Arc::new(sandbox), Arc::new(Limiter::detect()));
    let (events, heard) = mpsc::channel(64);
    let (build_events, builds_heard) = mpsc::channel(64);
    let (publish, prepared) = watch::channel(Arc::new(PreparedBuilds::new()));
    let (_, commands) = mpsc::channel(1);
    let (view, _) = watch::channel(View::default());
    let builds = BuildContext {
        layout: layout.clone(),
        shim_program: PathBuf::from("/nonexistent"),
        sandbox: sandbox.clone(),
        limiter: limiter.clone(),
        toolchain: Arc::new(Toolchain::default()),
        log_limits: LogLimits::default(),
        build_env: BTreeMap::new(),
        timeout: None,
        events: build_events,
        connections: watch::channel(None).1,
    };
    let context = Context {
        layout,
        shim_program: PathBuf::from("/nonexistent"),
        sandbox,
        limiter,
        log_limits: LogLimits::default(),
        time_zone: None,
        usage_interval: Duration::from_secs(5),
        turns: crate::replica::Turns::default(),
        events,
        prepared,
    };
    let channels = Channels {
        commands,
        events: heard,
        build_events: builds_heard,
        view,
    };
    let queue = BuildQueue::new(Arc::new(builds), 1, 8, publish);
    Hub::load(Arc::new(context), queue, 8, channels).expect("the folder is empty")
}

fn replica(number: u8, tenant: u8) -> DesiredReplica {
    let spec = AgentSpec::named("worker".parse().expect("it is a name")).run();
    DesiredReplica {
        replica_id: ReplicaId::new(born(), [number; 10]).to_string(),
        tenant_id: TenantId::new(born(), [tenant; 10]).to_string(),
        agent_id: AgentId::new(born(), [1; 10]).to_string(),
        agent_name: "worker".to_owned(),
        revision_id: RevisionId::new(born(), [1; 10]).to_string(),
        want: desired_replica::Want::Run.into(),
        build_id: BuildId::new(born(), [1; 10]).to_string(),
        run_spec_json: serde_json::to_vec(&spec)
            .expect("it has string keys")
            .into(),
        ..DesiredReplica::default()
    }
}

fn build(number: u8, tenant: u8) -> DesiredBuild {
    let spec = AgentSpec::named("worker".parse().expect("it is a name")).build();
    DesiredBuild {
        build_id: BuildId::new(born(), [number; 10]).to_string(),
        tenant_id: TenantId::new(born(), [tenant; 10]).to_string(),
        agent_name: "worker".to_owned(),
        source_digest: format!("sha256:{}", "0".repeat(64)),
        build_spec_json: serde_json::to_vec(&spec)
            .expect("it has string keys")
            .into(),
        ..DesiredBuild::default()
    }
}

async fn tell(hub: &mut Hub, replicas: &[DesiredReplica], builds: &[DesiredBuild]) -> View {
    hub.desire(&Desired {
        generation: 1,
        complete: true,
        replicas: replicas.to_vec(),
        builds: builds.to_vec(),
        ..Desired::default()
    });
    // Every replica reports at least once.
    while hub.view.borrow().replicas.len() < replicas.len() {
        let event = hub.events.recv().await.expect("replicas report");
        hub.handle_event(event);
    }
    for _ in 0..replicas.len() {
        if let Ok(event) = hub.events.try_recv() {
            hub.handle_event(event);
        }
    }
    hub.view.borrow().clone()
}

#[tokio::test]
async fn without_isolation_everything_is_refused_in_words() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let mut hub = hub(&dir, false);
    let (wanted, source) = (replica(1, 1), build(2, 1));
    let view = tell(
        &mut hub,
        std::slice::from_ref(&wanted),
        std::slice::from_ref(&source),
    )
    .await;
    let seen = &view.replicas[&wanted.replica_id];
    assert_eq!(
        (seen.phase.as_str(), seen.reason.as_str()),
        ("failed", "IsolationUnavailable")
    );
    assert!(
        seen.message.contains("--unsafe-no-isolation"),
        "{}",
        seen.message
    );
    let seen = &view.builds[&source.build_id];
    assert_eq!(
        (seen.phase.as_str(), seen.reason.as_str()),
        ("failed", "IsolationUnavailable")
    );
}

#[tokio::test]
async fn told_to_go_on_without_isolation_a_host_serves_one_tenant_and_says_so() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let mut hub = hub(&dir, true);
    let (first, second, foreign) = (replica(1, 1), replica(2, 2), build(3, 2));
    let view = tell(
        &mut hub,
        &[first.clone(), second.clone()],
        std::slice::from_ref(&foreign),
    )
    .await;
    let served = &view.replicas[&first.replica_id];
    assert_eq!(served.phase, "preparing");
    assert!(
        served.isolation.starts_with("none (unsafe)"),
        "{}",
        served.isolation
    );
    let refused = &view.replicas[&second.replica_id];
    assert_eq!(
        (refused.phase.as_str(), refused.reason.as_str()),
        ("failed", "IsolationUnavailable")
    );
    assert_eq!(
        view.builds[&foreign.build_id].reason,
        "IsolationUnavailable"
    );
}

#[tokio::test]
async fn a_refusal_is_told_only_as_long_as_the_replica_is_asked_for() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let mut hub = hub(&dir, true);
    let mut wrong = replica(1, 1);
    wrong.run_spec_json = b"{}".to_vec().into();
    let view = tell(&mut hub, std::slice::from_ref(&wrong), &[]).await;
    let seen = &view.replicas[&wrong.replica_id];
    assert_eq!(
        (seen.phase.as_str(), seen.reason.as_str()),
        ("failed", "StartFailed")
    );
    assert!(tell(&mut hub, &[], &[]).await.replicas.is_empty());
}
