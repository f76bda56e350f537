use parallax_core::id::{AgentId, KeyId, ReplicaId};

use super::*;
use crate::dispatch::CallContext;
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
    let blob = v1::BlobRef {
        digest: DIGEST.to_owned(),
        ..v1::BlobRef::default()
    };
    let call = Arc::new(Call {
        tenant: world.admin.tenant,
        id: TaskId::new(at(), crate::clock::random()),
        agent: name(agent),
        capability: "score".to_owned(),
        input: v1::Payload {
            content: Some(v1::payload::Content::Blob(blob)),
        },
        idempotency_key: String::new(),
        deadline: None,
        context: CallContext::default(),
        span: parallax_telemetry::trace::CallSpan::default(),
    });
    let reply = submit_call(&group, &call);
    (call.id, (session, reply))
}

fn get(world: &World, who: &Principal, task: Option<TaskId>, digest: &str) -> Option<Code> {
    let request = v1::GetBlobRequest {
        r#ref: task.map(reference),
        digest: digest.to_owned(),
        offset: 0,
    };
    world.app.may_get_blob(who, &request).err().map(|e| e.code)
}

fn put(world: &World, who: &Principal, task: Option<TaskId>, bytes: u64) -> Option<Code> {
    let header = v1::PutBlobHeader {
        r#ref: task.map(reference),
        digest: DIGEST.to_owned(),
        size_bytes: bytes,
        media_type: String::new(),
    };
    world.app.may_put_blob(who, &header).err().map(|e| e.code)
}

fn reference(id: TaskId) -> v1::TaskRef {
    v1::TaskRef {
        task_id: id.to_string(),
        attempt: 1,
        ..v1::TaskRef::default()
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
    foreign.tenant = parallax_core::id::TenantId::new(start(), [8; 10]);
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

async fn upload(world: &World, bytes: &[u8], promised: u64) -> Result<v1::BlobRef> {
    let begun = world.app.blobs.put(world.admin.tenant, 1 << 20).await;
    let mut upload = begun.expect("the disk works");
    upload.write(bytes).await.expect("the disk works");
    let digest = world.upload(bytes).await.digest;
    let header = v1::PutBlobHeader {
        digest,
        size_bytes: promised,
        ..v1::PutBlobHeader::default()
    };
    let size = bytes.len() as u64;
    let done = world.app.finish_blob(&world.admin, upload, header, size);
    done.await
}

#[tokio::test]
async fn a_blob_is_what_its_header_promised() {
    let world = World::new().await;
    let stored = upload(&world, b"four", 4).await.expect("it is stored");
    assert_eq!(stored.size_bytes, 4);
    let refused = upload(&world, b"five!", 4).await.expect_err("it is larger");
    assert_eq!(refused.code, Code::InvalidRequest);
}
