//! The use cases, one file per resource. Transports call these and nothing below.

pub mod agents;
pub mod blobs;
pub mod deploy;
mod dirty;
pub mod durable;
pub mod events;
pub mod forecast;
pub mod hosts;
pub mod instances;
pub mod invoke;
pub mod keys;
pub mod logs;
mod readiness;
mod receipt;
pub mod registry;
mod scheduling;
pub mod sources;
mod streams;
pub mod tasks;

pub use dirty::Dirty;
pub use receipt::Receipt;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parallax_core::id::{AgentId, TenantId};
use parallax_core::time::Timestamp;
use parallax_store::{BlobStore, Store};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Authenticator;
use crate::auth::token::Pepper;
use crate::clock::Clock;
use crate::dispatch::{Directory, DurableEvent};
use crate::hosts::Hosts;

/// Handshakes of agents that may be under way at once; the rest are told to come back shortly.
const HANDSHAKES_AT_ONCE: usize = 256;

/// Before something that is still busy is looked at again.
const LATER: Duration = Duration::from_millis(200);

/// Times and sizes that a deployment may want to change.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long an agent may be silent before its tasks count as lost.
    pub lease_ttl: Duration,
    /// Time for an attached call that names no deadline.
    pub default_deadline: Duration,
    /// The longest deadline that a caller may ask for.
    pub max_deadline: Duration,
    /// How long an agent may take to stop cancelled work before the cancel counts as unresolved.
    pub cancel_grace: Duration,
    /// Validity of a hosted agent's credential; renewed at half of it.
    pub replica_credential_ttl: Duration,
    /// Validity of a host's own credential, renewed at half of it; no end when absent: a host that
    /// was away for longer has to join again.
    pub host_credential_ttl: Option<Duration>,
    /// Largest source archive, compressed.
    pub max_source_bytes: u64,
    /// How long a build may take.
    pub build_deadline: Duration,
    /// Dead replicas of an agent whose logs are kept.
    pub dead_replicas_kept: usize,
    /// How long ended tasks and events are kept.
    pub history: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lease_ttl: Duration::from_secs(15),
            default_deadline: Duration::from_secs(60),
            max_deadline: Duration::from_secs(24 * 3600),
            cancel_grace: Duration::from_secs(10),
            replica_credential_ttl: Duration::from_secs(3600),
            host_credential_ttl: None,
            max_source_bytes: 256 * 1024 * 1024,
            build_deadline: Duration::from_secs(20 * 60),
            dead_replicas_kept: 5,
            history: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// The control plane's state. Everything durable is in `store`; the rest can be lost.
pub struct App {
    pub store: Store,
    pub blobs: BlobStore,
    pub directory: Directory,
    pub hosts: Hosts,
    pub auth: Authenticator,
    pub clock: Clock,
    pub limits: Limits,
    pub data_dir: PathBuf,
    /// Agents whose plan must be looked at again.
    pub dirty: Dirty,
    /// News of durable tasks' attempts; `jobs::durable` reads them.
    pub durable: mpsc::UnboundedSender<DurableEvent>,
    /// Wakes the dispatcher of durable tasks.
    pub queue: Arc<Notify>,
    pub handshakes: Arc<Semaphore>,
    /// Turns at looking at uploaded archives.
    pub inspections: sources::Inspections,
    /// Held to write while a name is given to a hosted agent, to read while an external one takes
    /// its own: so that no name ever has two owners.
    pub naming: Arc<tokio::sync::RwLock<()>>,
    /// Held to write while blobs are collected, to read while one is brought into use.
    pub collecting: tokio::sync::RwLock<()>,
    /// When this server started: what agents do not say within a lease from then on is not known.
    pub started: Instant,
    /// The same by the clock: what was there before may still come back.
    pub started_at: Timestamp,
    /// Whether every agent's status was derived anew since then: what is stored before that is of an
    /// earlier server.
    pub looked_at_all: AtomicBool,
    pub readiness: readiness::Readiness,
    /// Every task that the server started; awaited at shutdown.
    pub tasks: TaskTracker,
    pub shutdown: CancellationToken,
    /// The app itself, for what it starts.
    pub weak: Weak<App>,
}

/// What an app is made of.
pub struct Parts {
    pub store: Store,
    pub blobs: BlobStore,
    pub pepper: Pepper,
    pub clock: Clock,
    pub limits: Limits,
    pub data_dir: PathBuf,
}

impl App {
    /// Makes an app in which nothing runs yet, and the news that `jobs::durable` commits.
    #[must_use]
    pub fn assemble(parts: Parts) -> (Arc<Self>, mpsc::UnboundedReceiver<DurableEvent>) {
        let (durable, news) = mpsc::unbounded_channel();
        let started_at = parts.clock.now();
        let app = Arc::new_cyclic(|weak| Self {
            auth: Authenticator::new(parts.store.clone(), parts.clock.clone(), parts.pepper),
            store: parts.store,
            blobs: parts.blobs,
            directory: Directory::default(),
            hosts: Hosts::default(),
            clock: parts.clock,
            limits: parts.limits,
            data_dir: parts.data_dir,
            dirty: Dirty::default(),
            durable,
            queue: Arc::new(Notify::new()),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_AT_ONCE)),
            inspections: sources::Inspections::default(),
            naming: Arc::default(),
            collecting: tokio::sync::RwLock::default(),
            started: Instant::now(),
            started_at,
            looked_at_all: AtomicBool::new(false),
            readiness: readiness::Readiness::default(),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            weak: weak.clone(),
        });
        (app, news)
    }

    /// Has an agent looked at again in a moment.
    pub fn wake_later(&self, tenant: TenantId, agent: AgentId) {
        self.wake_after(LATER, tenant, agent);
    }

    /// Has an agent looked at again after a time.
    pub fn wake_after(&self, time: Duration, tenant: TenantId, agent: AgentId) {
        let Some(app) = self.weak.upgrade() else {
            return;
        };
        self.tasks.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(time) => app.dirty.mark(tenant, agent),
                () = app.shutdown.cancelled() => {}
            }
        });
    }
}
