//! An agent whose every habit a test decides, for end-to-end tests and benches.
//!
//! It speaks the real protocol on tonic, and it is lean: one task and one connection per agent,
//! nothing per task unless the agent is slow, so that a thousand of them run in one process.
//! [`Tally`] counts what was started and finished per task id; agents may share one, which proves
//! that no replica ran what another had run.

mod actor;
mod tally;
mod wire;

pub use tally::{Tally, TaskCount};

use std::time::Duration;

use parallax_proto::v1::{Capability, goaway};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use actor::{Actor, Command};

/// Commands that wait for the agent.
const COMMAND_QUEUE: usize = 16;

/// How an agent behaves.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Tasks at once: the credit that its Hello grants.
    pub concurrency: u32,
    /// What a task comes to.
    pub reply: Reply,
    /// What it says of a task as soon as it has accepted it.
    pub says: Vec<Say>,
    /// When it comes to it.
    pub pace: Pace,
    /// Whether it sends TaskAccepted. Without it the task is never leased, and nothing runs.
    pub accepts: bool,
    /// Whether it stops a cancelled task and says so. Without it, it ignores Cancel.
    pub heeds_cancel: bool,
    /// Whether it answers Ping and renews its lease. Without it, it looks dead.
    pub beats: bool,
    /// The roots of trust in PEM for an `https` URL.
    pub ca_pem: Option<String>,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// Where it counts. Clones of a tally count together.
    pub tally: Tally,
}

impl Default for Behaviour {
    /// An agent that echoes at once, 16 at a time.
    fn default() -> Self {
        Self {
            concurrency: 16,
            reply: Reply::Echo,
            says: Vec::new(),
            pace: Pace::AtOnce,
            accepts: true,
            heeds_cancel: true,
            beats: true,
            ca_pem: None,
            labels: Vec::new(),
            tally: Tally::default(),
        }
    }
}

/// What a task comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Its input, inline or by reference.
    Echo,
    /// This value.
    Value(Value),
    /// This value, and what the agent says for it.
    Supported {
        /// The value.
        value: Value,
        /// Parts per million, and who says so.
        confidence: (u32, String),
        /// Kinds and summaries.
        evidence: Vec<(String, String)>,
    },
    /// This failure.
    Failure {
        /// The code.
        code: String,
        /// The message.
        message: String,
        /// Whether trying again can help.
        retryable: bool,
    },
}

/// A sign of life of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Say {
    /// How far it is, in parts per million if it can tell.
    Progress(Option<u32>, String),
    /// The next piece of its result.
    Partial(String),
}

/// When a task comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As soon as it is read.
    AtOnce,
    /// After this long.
    After(Duration),
    /// When [`ScriptedAgent::release`] says so: a test's way to hold a task in flight.
    OnRelease,
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The agent dropped it, as it was told.
    Dropped,
    /// The server said Goaway.
    Goaway {
        /// The reason.
        reason: goaway::Reason,
        /// The server's words.
        message: String,
    },
    /// The stream ended with a status.
    Status {
        /// The code.
        code: tonic::Code,
        /// The server's words.
        message: String,
    },
    /// The stream ended well.
    Closed,
}

/// Why an agent could not connect, or is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The URL or the roots are malformed, or nothing listens there.
    #[error("cannot reach {url}")]
    Unreachable {
        /// The URL.
        url: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// The token has bytes that a header cannot carry.
    #[error("the token is not printable ASCII")]
    Token {
        /// Why.
        #[source]
        source: tonic::metadata::errors::InvalidMetadataValue,
    },
    /// The server refused the session.
    #[error("the server refused the session of agent {name}")]
    Refused {
        /// The agent's name.
        name: String,
        /// The status.
        #[source]
        source: Box<tonic::Status>,
    },
    /// The server said nothing, or something else than Welcome.
    #[error("the server did not welcome agent {name}: {instead}")]
    NoWelcome {
        /// The agent's name.
        name: String,
        /// What happened.
        instead: String,
    },
    /// The system's random source failed.
    #[error("cannot make an instance uuid")]
    Random {
        /// Why.
        #[source]
        source: getrandom::Error,
    },
    /// The agent's task has ended, because every handle was dropped or the runtime stops.
    #[error("agent {name} has stopped")]
    Stopped {
        /// The agent's name.
        name: String,
    },
}

/// Where a session stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Welcomed, with this lease.
    Connected {
        /// The session's lease epoch.
        lease_epoch: u64,
    },
    /// Not connected.
    Away(End),
}

/// A connected agent. Dropping it ends its session and its work.
#[derive(Debug)]
pub struct ScriptedAgent {
    name: String,
    instance_uuid: String,
    commands: mpsc::Sender<Command>,
    standing: watch::Receiver<Standing>,
    tally: Tally,
    /// Aborted with the handle.
    _task: JoinSet<()>,
}

impl ScriptedAgent {
    /// Connects as `name` with idempotent capabilities of these names.
    ///
    /// # Errors
    /// When the server cannot be reached or does not welcome the agent.
    pub async fn connect(
        url: &str,
        token: &str,
        name: &str,
        capabilities: &[&str],
        behaviour: Behaviour,
    ) -> Result<Self, AgentError> {
        let capabilities = capabilities.iter().map(|name| idempotent(name)).collect();
        Self::connect_with(url, token, name, capabilities, behaviour).await
    }

    /// Connects as `name` with capabilities spelled out.
    ///
    /// # Errors
    /// As [`ScriptedAgent::connect`].
    pub async fn connect_with(
        url: &str,
        token: &str,
        name: &str,
        capabilities: Vec<Capability>,
        behaviour: Behaviour,
    ) -> Result<Self, AgentError> {
        let instance_uuid = random_uuid()?;
        let tally = behaviour.tally.clone();
        let identity = wire::Identity {
            url: url.to_owned(),
            token: token.to_owned(),
            name: name.to_owned(),
            instance_uuid: instance_uuid.clone(),
            capabilities,
        };
        let (commands, orders) = mpsc::channel(COMMAND_QUEUE);
        let (actor, standing) = Actor::connect(identity, behaviour).await?;
        let mut task = JoinSet::new();
        task.spawn(actor.run(orders));
        Ok(Self {
            name: name.to_owned(),
            instance_uuid,
            commands,
            standing,
            tally,
            _task: task,
        })
    }

    /// The uuid that all sessions of this agent carry.
    #[must_use]
    pub fn instance_uuid(&self) -> &str {
        &self.instance_uuid
    }

    /// What the agent has started and finished.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Where its session stands now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Waits until the session has ended.
    ///
    /// # Errors
    /// When the agent has stopped.
    pub async fn ended(&self) -> Result<End, AgentError> {
        let mut standing = self.standing.clone();
        let away = standing
            .wait_for(|standing| matches!(standing, Standing::Away(_)))
            .await
            .map_err(|_| self.stopped())?;
        match &*away {
            Standing::Away(end) => Ok(end.clone()),
            Standing::Connected { .. } => Err(self.stopped()),
        }
    }

    /// Drops the connection without a word. Its tasks go on.
    ///
    /// # Errors
    /// When the agent has stopped.
    pub async fn drop_connection(&self) -> Result<(), AgentError> {
        self.order(Command::Drop).await
    }

    /// Dials again with the same uuid and the inventory, and follows the verdicts.
    ///
    /// # Errors
    /// When the server cannot be reached or does not welcome the agent.
    pub async fn reconnect(&self) -> Result<(), AgentError> {
        self.order(|done| Command::Reconnect { token: None, done })
            .await?
    }

    /// As [`ScriptedAgent::reconnect`], with another token.
    ///
    /// # Errors
    /// As [`ScriptedAgent::reconnect`].
    pub async fn reconnect_with_token(&self, token: &str) -> Result<(), AgentError> {
        let token = Some(token.to_owned());
        self.order(|done| Command::Reconnect { token, done })
            .await?
    }

    /// Says something of every task in hand.
    ///
    /// # Errors
    /// When the agent has stopped.
    pub async fn speak(&self, says: Vec<Say>) -> Result<(), AgentError> {
        self.order(|done| Command::Speak { says, done }).await
    }

    /// Ends every task that [`Pace::OnRelease`] holds.
    ///
    /// # Errors
    /// When the agent has stopped.
    pub async fn release(&self) -> Result<(), AgentError> {
        self.order(Command::Release).await
    }

    /// Asks the server for no further tasks; [`ScriptedAgent::ended`] tells of its Goaway.
    ///
    /// # Errors
    /// When the agent has stopped.
    pub async fn drain(&self, deadline: Duration) -> Result<(), AgentError> {
        self.order(|done| Command::Drain { deadline, done }).await
    }

    async fn order<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, AgentError> {
        let (done, answer) = oneshot::channel();
        self.commands
            .send(command(done))
            .await
            .map_err(|_| self.stopped())?;
        answer.await.map_err(|_| self.stopped())
    }

    fn stopped(&self) -> AgentError {
        AgentError::Stopped {
            name: self.name.clone(),
        }
    }
}

fn idempotent(name: &str) -> Capability {
    Capability {
        name: name.to_owned(),
        version: "1".to_owned(),
        idempotent: true,
        ..Capability::default()
    }
}

/// A version 4 UUID.
fn random_uuid() -> Result<String, AgentError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|source| AgentError::Random { source })?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok([
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-"))
}
