//! One session: dialling, Hello, Welcome, heartbeats.

use std::time::Duration;

use parallax_proto::v1::agent_service_client::AgentServiceClient;
use parallax_proto::v1::{
    AgentDown, AgentUp, Capability, Hello, InventoryItem, Sdk, Welcome, agent_down, agent_up,
};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Streaming};

use super::{AgentError, Behaviour, End};

/// Frames that wait for the network; a server that reads nothing stops the agent there.
const UP_QUEUE: usize = 256;

/// How long the agent waits for a connection, and for its Welcome.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(30);

/// Who the agent is, and where it dials.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) url: String,
    pub(super) token: String,
    pub(super) name: String,
    pub(super) instance_uuid: String,
    pub(super) capabilities: Vec<Capability>,
}

/// A welcomed session.
pub(super) struct Wire {
    pub(super) welcome: Welcome,
    up: mpsc::Sender<AgentUp>,
    down: Streaming<AgentDown>,
    beat: Interval,
}

/// What a session brings.
#[expect(
    clippy::large_enum_variant,
    reason = "moved once per frame and never stored"
)]
pub(super) enum Event {
    Frame(agent_down::Frame),
    BeatDue,
    Ended(End),
}

impl Wire {
    pub(super) async fn dial(
        identity: &Identity,
        behaviour: &Behaviour,
        credit: u32,
        inventory: Vec<InventoryItem>,
    ) -> Result<Self, AgentError> {
        let hello = Hello {
            agent_name: identity.name.clone(),
            instance_uuid: identity.instance_uuid.clone(),
            sdk: Some(Sdk {
                name: "parallax-testkit".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                language: "rust".to_owned(),
            }),
            proto_versions: vec![1],
            features: Vec::new(),
            capabilities: identity.capabilities.clone(),
            labels: behaviour.labels.iter().cloned().collect(),
            credit,
            inventory,
        };
        let (up, frames) = mpsc::channel(UP_QUEUE);
        let wire = Self::handshake(identity, behaviour, hello, up, frames);
        let late = |_| AgentError::NoWelcome {
            name: identity.name.clone(),
            instead: format!("nothing within {HANDSHAKE_PATIENCE:?}"),
        };
        // Boxed: the handshake's state is large and is needed once per session.
        tokio::time::timeout(HANDSHAKE_PATIENCE, Box::pin(wire))
            .await
            .map_err(late)?
    }

    async fn handshake(
        identity: &Identity,
        behaviour: &Behaviour,
        hello: Hello,
        up: mpsc::Sender<AgentUp>,
        frames: mpsc::Receiver<AgentUp>,
    ) -> Result<Self, AgentError> {
        let refused = |status| AgentError::Refused {
            name: identity.name.clone(),
            source: Box::new(status),
        };
        let no_welcome = |instead: String| AgentError::NoWelcome {
            name: identity.name.clone(),
            instead,
        };
        let channel = channel_to(&identity.url, behaviour.ca_pem.as_deref()).await?;
        send(&up, agent_up::Frame::Hello(hello)).await;
        let mut request = Request::new(ReceiverStream::new(frames));
        let bearer = format!("Bearer {}", identity.token)
            .parse()
            .map_err(|source| AgentError::Token { source })?;
        request.metadata_mut().insert("authorization", bearer);
        let mut down = AgentServiceClient::new(channel)
            .session(request)
            .await
            .map_err(refused)?
            .into_inner();
        match down.message().await.map_err(refused)? {
            Some(AgentDown {
                frame: Some(agent_down::Frame::Welcome(welcome)),
            }) => {
                let third = Duration::from_millis((welcome.ttl_ms / 3).max(1));
                let mut beat = tokio::time::interval(third);
                beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
                Ok(Self {
                    welcome,
                    up,
                    down,
                    beat,
                })
            }
            Some(other) => Err(no_welcome(format!("{other:?}"))),
            None => Err(no_welcome("the stream ended".to_owned())),
        }
    }

    pub(super) async fn send(&self, frame: agent_up::Frame) {
        send(&self.up, frame).await;
    }

    pub(super) async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.beat.tick() => Event::BeatDue,
            frame = self.down.message() => match frame {
                Ok(Some(AgentDown { frame: Some(frame) })) => Event::Frame(frame),
                // A frame of a newer protocol.
                Ok(Some(AgentDown { frame: None })) => Event::BeatDue,
                Ok(None) => Event::Ended(End::Closed),
                Err(status) => Event::Ended(End::Status {
                    code: status.code(),
                    message: status.message().to_owned(),
                }),
            },
        }
    }
}

async fn send(up: &mpsc::Sender<AgentUp>, frame: agent_up::Frame) {
    // Fails only when the session is over, which `next` reports with its reason.
    let _ = up.send(AgentUp { frame: Some(frame) }).await;
}

async fn channel_to(url: &str, ca_pem: Option<&str>) -> Result<Channel, AgentError> {
    let unreachable = |source| AgentError::Unreachable {
        url: url.to_owned(),
        source,
    };
    let mut endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(unreachable)?
        .tcp_nodelay(true);
    if let Some(ca_pem) = ca_pem {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca_pem));
        endpoint = endpoint.tls_config(tls).map_err(unreachable)?;
    }
    endpoint.connect().await.map_err(unreachable)
}
