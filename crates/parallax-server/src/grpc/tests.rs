//! A whole server, with clients that do what clients should not.

mod answers;

use std::sync::Arc;
use std::time::Duration;

use parallax_core::key::Scope;
use parallax_proto::v1;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;
use tonic::{Request, Streaming};
use v1::agent_service_client::AgentServiceClient;
use v1::registry_service_client::RegistryServiceClient;
use v1::task_service_client::TaskServiceClient;

use crate::app::Receipt;
use crate::app::keys::NewKey;
use crate::auth::token::Secret;
use crate::testing::name;
use crate::{Config, Server};

/// Longer than anything here should take, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Running {
    server: Server,
    admin: Secret,
    _folder: TempDir,
}

async fn running() -> Running {
    let folder = TempDir::new().expect("a folder");
    let mut server = Server::start(Config::new(folder.path()))
        .await
        .expect("it starts");
    let admin = server.new_admin_key.take().expect("it is the first start");
    Running {
        server,
        admin,
        _folder: folder,
    }
}

impl Running {
    async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(self.server.url.clone()).expect("a URL");
        endpoint.connect().await.expect("it listens")
    }

    async fn key(&self, scope: Scope) -> (parallax_core::id::KeyId, Secret) {
        self.key_for(scope, None).await
    }

    async fn key_for(
        &self,
        scope: Scope,
        ttl: Option<Duration>,
    ) -> (parallax_core::id::KeyId, Secret) {
        let app = &self.server.app;
        let admin = app.auth.authenticate(self.admin.reveal()).await;
        let wanted = NewKey {
            name: name(&format!("key-{scope}")),
            scopes: [scope].into_iter().collect(),
            groups: Vec::new(),
            ttl,
        };
        let made = app
            .create_key(&admin.expect("it is good"), wanted, Receipt::none())
            .await;
        let (key, secret) = made.expect("an administrator may");
        (key.id, secret)
    }

    async fn revoke(&self, key: parallax_core::id::KeyId) {
        let app = &self.server.app;
        let admin = app.auth.authenticate(self.admin.reveal()).await;
        let revoked = app
            .revoke_key(&admin.expect("it is good"), key, Receipt::none())
            .await;
        revoked.expect("an administrator may");
    }

    /// Joins as an agent that offers `score`; answers its way up and its way down.
    async fn agent(&self, key: &Secret) -> (mpsc::Sender<v1::AgentUp>, Streaming<v1::AgentDown>) {
        let (up, frames) = mpsc::channel(64);
        let hello = v1::Hello {
            agent_name: "scorer".to_owned(),
            instance_uuid: "0192f0c4-7d5e-7a10-8000-000000000001".to_owned(),
            proto_versions: vec![1],
            capabilities: vec![v1::Capability {
                name: "score".to_owned(),
                ..v1::Capability::default()
            }],
            credit: 8,
            ..v1::Hello::default()
        };
        let first = v1::agent_up::Frame::Hello(hello);
        up.send(v1::AgentUp { frame: Some(first) })
            .await
            .expect("room");
        let mut client = AgentServiceClient::new(self.channel().await);
        let opened = client.session(with(key, ReceiverStream::new(frames))).await;
        let mut down = opened.expect("it may join").into_inner();
        let frame = next(&mut down).await;
        assert!(matches!(frame, Some(v1::agent_down::Frame::Welcome(_))));
        (up, down)
    }
}

fn with<T>(key: &Secret, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {}", key.reveal());
    let value = value.parse().expect("a key is ASCII");
    request.metadata_mut().insert("authorization", value);
    request
}

/// The next frame but for pings.
async fn next(down: &mut Streaming<v1::AgentDown>) -> Option<v1::agent_down::Frame> {
    loop {
        let frame = tokio::time::timeout(PATIENCE, down.message()).await;
        match frame
            .expect("the server answers")
            .expect("no status")?
            .frame
        {
            Some(v1::agent_down::Frame::Ping(_)) => {}
            frame => return frame,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_never_stops_talking_is_closed_when_its_key_is_revoked() {
    let running = running().await;
    let (key, secret) = running.key(Scope::Agent).await;
    let (up, mut down) = running.agent(&secret).await;
    let flood = TaskTracker::new().spawn(async move {
        let pong = v1::agent_up::Frame::Pong(v1::Pong { nonce: 0 });
        let frame = v1::AgentUp { frame: Some(pong) };
        while up.send(frame.clone()).await.is_ok() {}
    });
    running.revoke(key).await;
    loop {
        match next(&mut down).await {
            Some(v1::agent_down::Frame::Goaway(goaway)) => {
                assert_eq!(goaway.reason(), v1::goaway::Reason::Unauthenticated);
                break;
            }
            Some(_) => {}
            None => panic!("closed without a word"),
        }
    }
    drop(down);
    flood.await.expect("the stream has ended");
    running.server.shutdown(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_tells_attached_callers_and_waits_for_nobody() {
    let running = running().await;
    let (_, agent_key) = running.key(Scope::Agent).await;
    let (_up, mut down) = running.agent(&agent_key).await;
    let (_, caller_key) = running.key(Scope::Invoke).await;
    let (calls, frames) = mpsc::channel(4);
    let call = v1::invoke_up::Frame::Call(v1::InvokeCall {
        call_id: 7,
        agent: "scorer".to_owned(),
        capability: "score".to_owned(),
        ..v1::InvokeCall::default()
    });
    calls
        .send(v1::InvokeUp { frame: Some(call) })
        .await
        .expect("room");
    let mut client = TaskServiceClient::new(running.channel().await);
    let opened = client
        .invoke(with(&caller_key, ReceiverStream::new(frames)))
        .await;
    let mut outcomes = opened.expect("it may call").into_inner();
    assert!(matches!(
        next(&mut down).await,
        Some(v1::agent_down::Frame::Task(_))
    ));
    let stopping = TaskTracker::new().spawn(running.server.shutdown(10 * PATIENCE));
    let told = tokio::time::timeout(PATIENCE, outcomes.message()).await;
    let told = told
        .expect("it is told")
        .expect("no status")
        .expect("an event");
    let Some(v1::invoke_down::Event::Outcome(v1::TaskOutcome {
        outcome: Some(v1::task_outcome::Outcome::Problem(problem)),
    })) = told.event
    else {
        panic!("not an outcome: {told:?}")
    };
    assert_eq!((told.call_id, problem.code.as_str()), (7, "shutting_down"));
    drop((calls, outcomes, client));
    let goodbye = loop {
        match next(&mut down).await {
            Some(v1::agent_down::Frame::Goaway(goaway)) => break goaway,
            Some(_) => {}
            None => panic!("closed without a word"),
        }
    };
    assert_eq!(goodbye.reason(), v1::goaway::Reason::Shutdown);
    drop((_up, down));
    let stopped = tokio::time::timeout(PATIENCE, stopping).await;
    stopped
        .expect("nothing holds the server up")
        .expect("no panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_ends_with_its_reader() {
    let running = running().await;
    let (_, agent_key) = running.key(Scope::Agent).await;
    let (_up, _down) = running.agent(&agent_key).await;
    let mut client = TaskServiceClient::new(running.channel().await);
    let submit = v1::SubmitTaskRequest {
        agent: "scorer".to_owned(),
        capability: "score".to_owned(),
        ..v1::SubmitTaskRequest::default()
    };
    let task = client.submit(with(&running.admin, submit)).await;
    let task_id = task.expect("it is taken on").into_inner().task_id;
    let before = running.server.app.tasks.len();
    let watch = v1::WatchTaskRequest { task_id, after: 0 };
    let opened = client.watch(with(&running.admin, watch)).await;
    let mut events = opened.expect("it may watch").into_inner();
    let first = tokio::time::timeout(PATIENCE, events.message()).await;
    assert!(first.is_ok_and(|event| event.is_ok_and(|event| event.is_some())));
    assert!(running.server.app.tasks.len() > before);
    drop(events);
    let gone = async {
        while running.server.app.tasks.len() > before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let ended = tokio::time::timeout(PATIENCE, gone).await;
    ended.expect("the watch goes with its reader");
    running.server.shutdown(PATIENCE).await;
}

/// Long enough to begin with, short enough to wait for.
const SHORT: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_told_when_its_key_has_expired_and_closed() {
    let running = running().await;
    let (_, secret) = running.key_for(Scope::Agent, Some(SHORT)).await;
    let (_up, mut down) = running.agent(&secret).await;
    let Some(v1::agent_down::Frame::Goaway(goaway)) = next(&mut down).await else {
        panic!("the session ends with a goodbye")
    };
    assert_eq!(goaway.reason(), v1::goaway::Reason::Unauthenticated);
    assert_eq!(next(&mut down).await, None);
    running.server.shutdown(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_of_the_registry_ends_with_its_key() {
    let running = running().await;
    let (_, secret) = running.key_for(Scope::Read, Some(SHORT)).await;
    let mut client = RegistryServiceClient::new(running.channel().await);
    let opened = client.watch(with(&secret, v1::WatchRegistryRequest::default()));
    let mut events = opened.await.expect("it may watch").into_inner();
    let end = async {
        loop {
            if let Err(status) = events.message().await {
                return status;
            }
        }
    };
    let status = tokio::time::timeout(PATIENCE, end).await;
    let status = status.expect("the watch ends");
    assert_eq!(status.code(), tonic::Code::Unauthenticated, "{status}");
    running.server.shutdown(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_finds_too_many_at_the_door_is_told_when_to_come_back() {
    let running = running().await;
    let (_, secret) = running.key(Scope::Agent).await;
    let handshakes = Arc::clone(&running.server.app.handshakes);
    let all = u32::try_from(handshakes.available_permits()).expect("a few");
    let taken = handshakes.acquire_many_owned(all).await;
    let (_up, frames) = mpsc::channel::<v1::AgentUp>(1);
    let mut client = AgentServiceClient::new(running.channel().await);
    let refused = client.session(with(&secret, ReceiverStream::new(frames)));
    let Err(status) = refused.await else {
        panic!("there is no room")
    };
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let after = status.metadata().get("retry-after-ms");
    let after: u64 = after
        .expect("it says when")
        .to_str()
        .expect("ASCII")
        .parse()
        .expect("milliseconds");
    assert!((200..10_000).contains(&after), "{after}");
    drop(taken);
    let (_up, _down) = running.agent(&secret).await;
    running.server.shutdown(PATIENCE).await;
}
