//! Walks every rpc of the descriptor: as nobody, and as another tenant.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parallax_core::key::Scope;
use parallax_proto::{FILE_DESCRIPTOR_SET, v1};
use prost::Message;
use tokio::net::TcpStream;

use super::world::{Client, PATIENCE, World};

/// What a call came to.
struct Answer {
    status: tonic::Code,
    body: Bytes,
}

/// Every rpc, as its path.
fn rpcs() -> Vec<String> {
    let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("it is whole");
    let mut all = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let service_path = format!("{}.{}", file.package(), service.name());
            all.extend(
                service
                    .method
                    .iter()
                    .map(|m| format!("/{service_path}/{}", m.name())),
            );
        }
    }
    assert!(all.len() >= 12, "{all:?}");
    all
}

/// Sends one message, ends the request and reads the answer for a while: a stream that stays open
/// after its first frames has shown what it shows.
async fn call(client: &Client, rpc: &str, message: &[u8]) -> Answer {
    let address = client.url.trim_start_matches("http://");
    let socket = TcpStream::connect(address)
        .await
        .expect("the server listens");
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await;
    let (mut sender, connection) = handshake.expect("the server speaks HTTP/2");
    let mut connections = tokio::task::JoinSet::new();
    connections.spawn(connection);
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("it is small"));
    frame.put_slice(message);
    let mut request = http::Request::post(format!("{}{rpc}", client.url))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(key) = &client.key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let request = request.body(Full::new(frame.freeze())).expect("a request");
    let sent = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
    let response = sent.expect("in time").expect("the server answers");
    let mut headers = response.headers().clone();
    let mut incoming = response.into_body();
    let mut body = BytesMut::new();
    while !headers.contains_key("grpc-status") {
        let next = tokio::time::timeout(PATIENCE, incoming.frame()).await;
        let Some(frame) = next.expect("the call ends") else {
            break;
        };
        match frame.expect("the stream is whole").into_data() {
            Ok(data) => {
                body.put(data);
                // A watch goes on for ever: `synced` (field 4) says that all was shown.
                if rpc.ends_with("RegistryService/Watch") && body.ends_with(&[0x20, 1]) {
                    headers.insert("grpc-status", http::HeaderValue::from_static("0"));
                }
            }
            Err(frame) => headers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    connections.shutdown().await;
    let status = headers
        .get("grpc-status")
        .expect("a call ends with a status");
    let number: i32 = status.to_str().expect("digits").parse().expect("digits");
    Answer {
        status: number.into(),
        body: body.freeze(),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn nobody_gets_past_any_rpc_without_a_credential() {
    let world = World::start().await;
    for rpc in rpcs() {
        let answer = call(&world.ours.anonymous(), &rpc, &[]).await;
        assert_eq!(answer.status, tonic::Code::Unauthenticated, "{rpc}");
    }
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let answer = call(&world.ours.anonymous(), reflection, &[]).await;
    assert_eq!(answer.status, tonic::Code::Unauthenticated);
    let health = call(&world.ours.anonymous(), "/grpc.health.v1.Health/Check", &[]).await;
    assert_eq!(health.status, tonic::Code::Ok);
}

#[tokio::test]
async fn reflection_lists_the_services_to_whoever_has_a_key() {
    let world = World::start().await;
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    // `list_services`, field 7 of the request.
    let answer = call(&world.ours, reflection, &[0x3a, 0]).await;
    assert_eq!(answer.status, tonic::Code::Ok);
    let services: BTreeSet<String> = rpcs()
        .iter()
        .filter_map(|rpc| rpc.trim_start_matches('/').split('/').next())
        .map(str::to_owned)
        .collect();
    assert!(services.len() >= 5, "{services:?}");
    for service in services {
        assert!(contains(&answer.body, service.as_bytes()), "{service}");
    }
}

/// What another tenant's keys get to hear, for each rpc.
fn expected(rpc: &str, task: &str, agent: &str) -> (Vec<u8>, tonic::Code) {
    use tonic::Code as G;
    let method = rpc.trim_start_matches("/parallax.v1.");
    let reference = Some(v1::TaskRef {
        task_id: task.to_owned(),
        attempt: 1,
        ..Default::default()
    });
    let digest = format!("sha256:{}", "0".repeat(64));
    match method {
        "TaskService/Get" => (
            v1::GetTaskRequest {
                task_id: task.to_owned(),
            }
            .encode_to_vec(),
            G::NotFound,
        ),
        "TaskService/Cancel" => {
            let request = v1::CancelTaskRequest {
                task_id: task.to_owned(),
                reason: String::new(),
            };
            (request.encode_to_vec(), G::NotFound)
        }
        "TaskService/Watch" => {
            let request = v1::WatchTaskRequest {
                task_id: task.to_owned(),
                after: 0,
            };
            (request.encode_to_vec(), G::NotFound)
        }
        "TaskService/Submit" => {
            let request = v1::SubmitTaskRequest {
                agent: agent.to_owned(),
                capability: "score".to_owned(),
                ..Default::default()
            };
            (request.encode_to_vec(), G::NotFound)
        }
        "TaskService/Invoke" => {
            let call = v1::InvokeCall {
                call_id: 1,
                agent: agent.to_owned(),
                capability: "score".to_owned(),
                ..Default::default()
            };
            let frame = Some(v1::invoke_up::Frame::Call(call));
            (v1::InvokeUp { frame }.encode_to_vec(), G::Ok)
        }
        "BlobService/Get" => {
            let request = v1::GetBlobRequest {
                r#ref: reference,
                digest,
                offset: 0,
            };
            (request.encode_to_vec(), G::NotFound)
        }
        "BlobService/Put" => (Vec::new(), G::InvalidArgument),
        "RegistryService/List" | "RegistryService/Watch" => (Vec::new(), G::Ok),
        "AgentService/Session" => (v1::AgentUp::default().encode_to_vec(), G::PermissionDenied),
        "HostService/Join"
        | "HostService/Session"
        | "HostService/Artifacts"
        | "HostService/Logs" => (Vec::new(), G::PermissionDenied),
        _ => panic!("say what another tenant may see of {rpc}"),
    }
}

#[tokio::test]
async fn another_tenant_sees_nothing_by_any_rpc() {
    let world = World::start().await;
    let id = world.register("alpha-secret").await;
    let request = world
        .ours
        .request(reqwest::Method::POST, "/api/agents/alpha-secret/invoke");
    let call_body = serde_json::json!({ "capability": "score" });
    let task = super::world::read(request.header("prefer", "respond-async").json(&call_body)).await;
    let task = task.json()["id"]
        .as_str()
        .expect("tasks have ids")
        .to_owned();
    let agent = world.with_scopes("agents", &[Scope::Agent]).await;
    let connected = parallax_testkit::scripted_agent::ScriptedAgent::connect(
        &world.server.url,
        agent.key.as_deref().expect("it has a key"),
        "beta-secret",
        &["score"],
        parallax_testkit::scripted_agent::Behaviour::default(),
    );
    let connected = connected.await.expect("the key may join");
    let theirs = world.theirs().await;
    for rpc in rpcs() {
        for name in [id.as_str(), "alpha-secret", "beta-secret"] {
            let (message, status) = expected(&rpc, &task, name);
            let answer = call(&theirs, &rpc, &message).await;
            assert_eq!(answer.status, status, "{rpc}");
            let ours = [
                &id,
                "alpha-secret",
                "beta-secret",
                "score",
                connected.instance_uuid(),
            ];
            // A refusal repeats the name that it was asked for, and nothing else.
            let mut ours = ours.into_iter().filter(|mark| *mark != name);
            let leak = ours.find(|mark| contains(&answer.body, mark.as_bytes()));
            assert!(leak.is_none(), "{rpc}: {:?}", answer.body);
        }
    }
    let task = world.ours.get(&format!("/api/tasks/{task}")).await.json();
    assert_eq!(
        (&task["state"], &task["cancel"]),
        (&"queued".into(), &"none".into())
    );
}
