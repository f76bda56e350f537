use parallax_core::id::{AgentId, KeyId, ReplicaId};
use parallax_core::task::{Payload, TaskContext};

use super::*;
use crate::dispatch::tests::{Agent, Entry, Reply, at, submit_call};
use crate::testing::{World, name, start};

const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000001";
const OTHER: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000002";

fn replica() -> (AgentId, ReplicaId) {
    (AgentId::new(at(), [2; 10]), ReplicaId::new(at(), [3; 10]))
}

fn agent_key(n: u8) -> KeyId {
    KeyId::new(at(), [n; 10])
}

fn principal(world: &World, kind: PrincipalKind, scope: Scope) -> Principal {
    Principal {
        kind,
        scopes: [scope].into_iter().collect(),
        ..world.admin.clone()
    }
}

fn external(world: &World, n: u8) -> Principal {
    principal(world, PrincipalKind::Key(agent_key(n)), Scope::Agent)
}

fn hosted(world: &World, replica: ReplicaId) -> Principal {
    let kind = PrincipalKind::Replica {
        agent: self::replica().0,
        agent_name: name("scorer"),
        replica,
    };
    principal(world, kind, Scope::Agent)
}

/// Sends a task with a blob as its input to the instance that `entry` describes.
fn held(world: &World, agent: &str, entry: Entry) -> (TaskId, (Agent, Reply)) {
    let group = world.group(agent);
    let session = entry.join(&group);
    let call = Arc::new(Call {
        tenant: world.admin.tenant,
        id: TaskId::new(at(), crate::clock::random()),
        agent: name(agent),
        capability: "score".to_owned(),
        input: Payload::Blob(blob(DIGEST, 0)),
        idempotency_key: String::new(),
        deadline: None,
        context: TaskContext::default(),
        span: parallax_telemetry::trace::CallSpan::default(),
    });
    let reply = submit_call(&group, &call);
    (call.id, (session, reply))
}

fn get(world: &World, who: &Principal, task: Option<TaskId>, digest: &str) -> Option<Code> {
    let digest = blob(digest, 0).digest;
    let refused = world.app.may_get_blob(who, task, &digest).err();
    refused.map(|e| e.code)
}

fn put(world: &World, who: &Principal, task: Option<TaskId>, bytes: u64) -> Option<Code> {
    let refused = world.app.may_put_blob(who, task, &blob(DIGEST, bytes));
    refused.err().map(|e| e.code)
}

fn blob(digest: &str, size_bytes: u64) -> BlobRef {
    BlobRef {
        digest: digest.parse().expect("a digest"),
        size_bytes,
        media_type: String::new(),
    }
}

#[tokio::test]
async fn an_agent_reads_the_input_of_the_task_it_holds_and_nothing_else() {
    let world = World::new().await;
    let mut entry = Entry::new("a", 1);
    entry.hosted = Some(replica());
    let (task, _held) = held(&world, "scorer", entry);
    let holder = hosted(&world, replica().1);
    assert_eq!(get(&world, &holder, Some(task), DIGEST), None);
    assert_eq!(
        get(&world, &holder, Some(task), OTHER),
        Some(Code::NotFound)
    );
    assert_eq!(get(&world, &holder, None, DIGEST), Some(Code::Forbidden));
    let stranger = hosted(&world, ReplicaId::new(at(), [9; 10]));
    assert_eq!(
        get(&world, &stranger, Some(task), DIGEST),
        Some(Code::NotFound)
    );
    assert_eq!(put(&world, &holder, Some(task), 10), None);
    assert_eq!(put(&world, &stranger, Some(task), 10), Some(Code::NotFound));
}

#[tokio::test]
async fn external_agents_are_told_apart_by_their_keys() {
    let world = World::new().await;
    let mut entry = Entry::new("a", 1);
    entry.key = Some(agent_key(1));
    let (task, _held) = held(&world, "scorer", entry);
    assert_eq!(get(&world, &external(&world, 1), Some(task), DIGEST), None);
    let other = external(&world, 2);
    assert_eq!(
        get(&world, &other, Some(task), DIGEST),
        Some(Code::NotFound)
    );
    assert_eq!(put(&world, &other, Some(task), 10), Some(Code::NotFound));
}

#[tokio::test]
async fn another_tenants_task_is_not_found() {
    let world = World::new().await;
    let mut entry = Entry::new("a", 1);
    entry.key = Some(agent_key(1));
    let (task, _held) = held(&world, "scorer", entry);
    let mut foreign = external(&world, 1);
    foreign.tenant = TenantId::new(start(), [8; 10]);
    assert_eq!(
        get(&world, &foreign, Some(task), DIGEST),
        Some(Code::NotFound)
    );
}

#[tokio::test]
async fn callers_store_inputs_and_readers_read_them() {
    let world = World::new().await;
    let kind = PrincipalKind::Key(agent_key(1));
    let caller = principal(&world, kind.clone(), Scope::Invoke);
    assert_eq!(put(&world, &caller, None, 10), None);
    assert_eq!(
        put(&world, &caller, None, MAX_BLOB_BYTES + 1),
        Some(Code::TooLarge)
    );
    let reader = principal(&world, kind, Scope::Read);
    assert_eq!(get(&world, &reader, None, DIGEST), None);
    assert_eq!(put(&world, &reader, None, 10), Some(Code::Forbidden));
}

async fn upload(world: &World, bytes: &[u8], promised: u64) -> Result<BlobRef> {
    let digest = world.upload(bytes).await.digest;
    let promised = blob(&digest, promised);
    let begun = world.app.begin_blob(&world.admin, None, &promised).await;
    let mut upload = begun.expect("an input");
    upload.write(bytes).await.expect("the disk works");
    let done = world.app.finish_blob(&world.admin, upload, &promised);
    done.await.map(|()| promised)
}

#[tokio::test]
async fn a_blob_is_what_its_header_promised() {
    let world = World::new().await;
    upload(&world, b"four", 4).await.expect("it is stored");
    let refused = upload(&world, b"five!", 4).await.expect_err("it is larger");
    assert_eq!(refused.code, Code::InvalidRequest);
}

#[tokio::test]
async fn an_answer_names_only_blobs_that_were_put() {
    let world = World::new().await;
    let tenant = world.admin.tenant;
    let put = upload(&world, b"four", 4).await.expect("it is stored");
    let checked = async |blob: BlobRef| {
        let answer = Success::of(Payload::Blob(blob));
        let refused = world.app.check_blobs(tenant, &answer).await.err();
        refused.map(|e| (e.code, e.message.into_owned()))
    };
    assert_eq!(checked(put.clone()).await, None);
    let larger = BlobRef {
        size_bytes: 5,
        ..put
    };
    for (blob, why) in [
        (blob(OTHER, 4), "which nobody put"),
        (larger, "which has 4 bytes, not 5"),
    ] {
        let (code, message) = checked(blob).await.expect("it is refused");
        assert_eq!(code, Code::AgentFailed);
        assert!(message.ends_with(why), "{message}");
    }
}
