use super::*;
use crate::agent::ManagedBy;
use crate::id::{AgentId, RevisionId, TenantId};
use crate::status::Status;
use crate::time::Timestamp;

const AT: Timestamp = Timestamp::from_unix_millis(0);

fn agent(replicas: u32) -> Agent {
    Agent {
        tenant: TenantId::new(AT, [0; 10]),
        id: AgentId::new(AT, [0; 10]),
        name: "a".parse().expect("a name"),
        managed_by: ManagedBy::Api,
        generation: 1,
        replicas,
        revision: Some(RevisionId::new(AT, [0; 10])),
        suspended: false,
        delete: None,
        status: Status::pending(AT),
        created_at: AT,
        updated_at: AT,
    }
}

fn spec(replicas: Option<u32>) -> AgentSpec {
    AgentSpec {
        replicas,
        ..AgentSpec::named("a".parse().expect("a name"))
    }
}

fn revision(replicas: Option<u32>) -> Revision {
    Revision {
        tenant: TenantId::new(AT, [0; 10]),
        id: RevisionId::new(AT, [0; 10]),
        agent: AgentId::new(AT, [0; 10]),
        number: 1,
        spec: spec(replicas),
        source_digest: "sha256:one".to_owned(),
        source_bytes: 1,
        build_key: String::new(),
        created_at: AT,
        created_by: "ci".to_owned(),
    }
}

/// What deploying a manifest that states so many replicas changes of an agent with `running`.
fn check(stated: Option<u32>, running: u32, expected: (Change, u32)) {
    let (agent, current) = (agent(running), revision(stated));
    let spec = spec(stated);
    let wanted = Wanted {
        spec: &spec,
        source_digest: Some("sha256:one"),
        suspended: false,
    };
    let change = wanted.change(Some(&agent), Some(&current));
    let replicas = wanted.replicas(Some(&agent));
    assert_eq!((change, replicas), expected, "{stated:?} {running}");
}

#[test]
fn a_number_that_the_manifest_states_wins_and_one_that_it_omits_stays_scaled() {
    check(None, 3, (Change::Nothing, 3));
    check(None, 0, (Change::Nothing, 0));
    check(Some(3), 3, (Change::Nothing, 3));
    check(Some(1), 3, (Change::Settings, 1));
    let spec = spec(None);
    let first = Wanted {
        spec: &spec,
        source_digest: Some("sha256:one"),
        suspended: false,
    };
    assert_eq!(first.change(None, None), Change::Create);
    assert_eq!(first.replicas(None), DEFAULT_REPLICAS);
}

#[test]
fn another_number_of_replicas_makes_no_revision_and_another_source_or_spec_does() {
    let agent = agent(1);
    let current = revision(Some(1));
    let change = |digest, change: fn(&mut AgentSpec)| {
        let mut spec = spec(Some(1));
        change(&mut spec);
        let wanted = Wanted {
            spec: &spec,
            source_digest: Some(digest),
            suspended: false,
        };
        wanted.change(Some(&agent), Some(&current))
    };
    assert_eq!(change("sha256:one", |_| ()), Change::Nothing);
    assert_eq!(
        change("sha256:one", |spec| spec.replicas = Some(2)),
        Change::Settings
    );
    assert_eq!(
        change("sha256:one", |spec| spec.stop_grace_ms = 1),
        Change::Revision
    );
    assert_eq!(change("sha256:two", |_| ()), Change::Revision);
}

#[test]
fn what_failed_is_tried_again_and_what_is_suspended_comes_back_as_it_was() {
    let (mut agent, current) = (agent(1), revision(None));
    let spec = spec(None);
    let wanted = Wanted {
        spec: &spec,
        source_digest: Some("sha256:one"),
        suspended: false,
    };
    agent.suspended = true;
    assert_eq!(
        wanted.change(Some(&agent), Some(&current)),
        Change::Settings
    );
    agent.suspended = false;
    agent.status.phase = Phase::Failed;
    assert_eq!(
        wanted.change(Some(&agent), Some(&current)),
        Change::Revision
    );
    let registered = Wanted {
        source_digest: None,
        suspended: true,
        ..wanted
    };
    assert_eq!(
        registered.change(Some(&agent), Some(&current)),
        Change::Settings
    );
}
