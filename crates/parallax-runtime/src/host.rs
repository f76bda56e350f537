//! A host from its start to its end.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parallax_builder::Toolchain;
use rustix::fs::FlockOperation;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::build::{BuildContext, BuildQueue, Connection};
use crate::config::{HostConfig, Stop};
use crate::error::{HostError, blocking, chain};
use crate::facts::facts;
use crate::hub::{Channels, Command, Hub};
use crate::isolation::Sandbox;
use crate::layout::Layout;
use crate::limits::Limiter;
use crate::prepared::PreparedBuilds;
use crate::replica::{Context, Turns, sane};
use crate::session::{Reception, Session, endpoint};
use crate::task::Task;
use crate::view::View;

/// Words of replicas that may wait for the hub, which never waits itself.
const EVENT_QUEUE: usize = 256;
/// How long the step of a build may take to die when the host stops.
const BUILDS_END: Duration = Duration::from_secs(10);
/// Kept of a stop's deadline for killing what did not end by its grace.
const KILL_MARGIN: Duration = Duration::from_secs(2);

/// A local host. Dropping it is like [`Stop::LeaveReplicas`] without waiting.
#[derive(Debug)]
pub struct Host {
    data_dir: PathBuf,
    credential: PathBuf,
    means: String,
    commands: mpsc::Sender<Command>,
    ready: watch::Receiver<Reception>,
    stop: CancellationToken,
    main: Task,
    lock: File,
}

impl Host {
    /// Starts a host: takes its folder, takes over what an earlier host has left running there, and
    /// dials the control plane for ever. Returns before there is contact; see [`Host::ready`].
    ///
    /// # Errors
    /// When the folder is in use or cannot be protected, or the configuration makes no sense.
    pub async fn start(mut config: HostConfig) -> Result<Self, HostError> {
        if !cfg!(target_os = "linux") {
            return Err(HostError::UnsupportedSystem);
        }
        endpoint(&config)?;
        config.log_limits = sane(config.log_limits);
        let data_dir = config.data_dir.clone();
        let (layout, lock) = blocking(move || {
            let layout = Layout::create(&data_dir)?;
            let lock = lock(&layout)?;
            Ok((layout, lock))
        })
        .await?;
        let mut protected = config.protected_paths.clone();
        protected.push(layout.root().to_path_buf());
        let (unsafe_allowed, cgroups) = (config.unsafe_no_isolation, config.cgroups);
        let asked_for = config.isolation;
        let (sandbox, limiter) = blocking(move || {
            let probe = parallax_shim::isolation::probe();
            let sandbox = Sandbox::choose(&probe, asked_for, unsafe_allowed, &protected)?;
            let limiter = match cgroups {
                true => Limiter::detect(),
                false => Limiter::without_cgroups(),
            };
            Ok((sandbox, limiter))
        })
        .await?;
        let means = sandbox.words(&limiter.word());
        let (commands, inbox) = mpsc::channel(EVENT_QUEUE);
        let (tell_ready, ready) = watch::channel(Reception::Awaited);
        let stop = CancellationToken::new();
        let boot = Boot {
            data_dir: layout.root().to_path_buf(),
            config: Arc::new(config),
            layout,
            sandbox: Arc::new(sandbox),
            limiter: Arc::new(limiter),
            commands: commands.clone(),
            inbox,
            ready: tell_ready,
            stop: stop.clone(),
        };
        Ok(Self {
            data_dir: boot.data_dir.clone(),
            credential: boot.config.credential.file().to_path_buf(),
            means,
            main: Task::spawn(boot.run()),
            commands,
            ready,
            stop,
            lock,
        })
    }

    /// What keeps agents apart here and what limits them, such as `landlock+cgroup1`.
    #[must_use]
    pub fn means(&self) -> &str {
        &self.means
    }

    /// Waits until the control plane has welcomed the host.
    ///
    /// # Errors
    /// When the host ends before that, or its join token is refused.
    pub async fn ready(&self) -> Result<(), HostError> {
        let mut ready = self.ready.clone();
        let received = ready.wait_for(|it| *it != Reception::Awaited).await;
        let received = received.map_err(|_| HostError::ShuttingDown)?;
        match &*received {
            Reception::Refused(words) => Err(HostError::JoinRefused(words.clone())),
            Reception::Welcomed | Reception::Awaited | Reception::Superseded => Ok(()),
        }
    }

    /// Waits until another host has taken this one's place at the control plane, for good: it has
    /// no contact any more, and what it runs goes on. Never returns where
    /// [`HostConfig::superseded_wait`] is set.
    pub async fn superseded(&self) -> HostError {
        let mut ready = self.ready.clone();
        if ready
            .wait_for(|it| *it == Reception::Superseded)
            .await
            .is_ok()
        {
            return HostError::Superseded {
                credential: self.credential.clone(),
            };
        }
        // It ended otherwise, which is told elsewhere.
        std::future::pending().await
    }

    /// Ends the host, with or without its replicas. The folder is free afterwards.
    ///
    /// # Errors
    /// When something of a replica survives.
    pub async fn stop(mut self, stop: Stop) -> Result<(), HostError> {
        let (grace, patience) = match stop {
            Stop::LeaveReplicas => (None, BUILDS_END),
            Stop::StopAll { deadline } => (Some(deadline.saturating_sub(KILL_MARGIN)), deadline),
        };
        let (done, finished) = oneshot::channel();
        let asked = self.commands.send(Command::Stop { grace, done }).await;
        if asked.is_ok() && timeout(patience, finished).await.is_err() {
            tracing::warn!("not everything ended in time");
        }
        self.stop.cancel();
        self.main.end().await;
        if let Stop::StopAll { .. } = stop {
            let data_dir = self.data_dir.clone();
            crate::down::clear(&data_dir, Duration::ZERO).await?;
        }
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.cancel();
        // Tasks that are still being dropped hold no lock; the file is closed with this value.
        let _ = rustix::fs::flock(&self.lock, FlockOperation::Unlock);
    }
}

/// What goes on after [`Host::start`] has returned: looking for toolchains takes longer than a
/// server should wait.
struct Boot {
    data_dir: PathBuf,
    config: Arc<HostConfig>,
    layout: Layout,
    sandbox: Arc<Sandbox>,
    limiter: Arc<Limiter>,
    commands: mpsc::Sender<Command>,
    inbox: mpsc::Receiver<Command>,
    ready: watch::Sender<Reception>,
    stop: CancellationToken,
}

impl Boot {
    async fn run(self) {
        match Box::pin(self.boot()).await {
            Ok((hub, session)) => {
                // One task for both: what ends the one ends the other.
                tokio::join!(hub.run(), session.run());
            }
            Err(error) => {
                tracing::error!(
                    error = chain(&error),
                    "the host cannot take over its folder"
                );
            }
        }
    }

    async fn boot(self) -> Result<(Hub, Session), HostError> {
        let search_path = self.config.tools_path.clone();
        let toolchain = blocking(move || Ok(Toolchain::discover(&search_path))).await?;
        let facts = facts(&self.config, &self.sandbox, &self.limiter, &toolchain);
        let (events, heard) = mpsc::channel(EVENT_QUEUE);
        let (build_events, builds_heard) = mpsc::channel(EVENT_QUEUE);
        let (publish, prepared) = watch::channel(Arc::new(PreparedBuilds::new()));
        let (view, seen) = watch::channel(View::default());
        let (connections, connected) = watch::channel::<Option<Connection>>(None);
        let builds = BuildContext {
            layout: self.layout.clone(),
            shim_program: self.config.shim_program.clone(),
            sandbox: self.sandbox.clone(),
            limiter: self.limiter.clone(),
            toolchain: Arc::new(toolchain),
            log_limits: self.config.log_limits,
            build_env: self.config.build_env.clone(),
            timeout: self.config.build_timeout,
            events: build_events,
            connections: connected,
        };
        let context = Context {
            layout: self.layout,
            shim_program: self.config.shim_program.clone(),
            sandbox: self.sandbox,
            limiter: self.limiter,
            log_limits: self.config.log_limits,
            time_zone: self.config.time_zone.clone(),
            usage_interval: self.config.usage_interval,
            turns: Turns::default(),
            events,
            prepared,
        };
        let queue = BuildQueue::new(
            Arc::new(builds),
            self.config.concurrent_builds,
            self.config.queued_builds,
            publish,
        );
        let channels = Channels {
            commands: self.inbox,
            events: heard,
            build_events: builds_heard,
            view,
        };
        // The folders hold at most a few hundred small files.
        let hub = Hub::load(Arc::new(context), queue, self.config.max_replicas, channels)?;
        let session = Session {
            config: self.config,
            facts: Arc::new(facts),
            hub: self.commands,
            view: seen,
            connections,
            ready: self.ready,
            stop: self.stop,
        };
        Ok((hub, session))
    }
}

/// Takes the folder for this process. The lock goes with the returned file.
pub(crate) fn lock(layout: &Layout) -> Result<File, HostError> {
    let path = layout.lock_file();
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(HostError::io("open", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(HostError::InUse {
            data_dir: layout.root().to_path_buf(),
        }),
        Err(error) => Err(HostError::io("lock", &path)(io::Error::from(error))),
    }
}

/// Whether a folder is a host's.
pub(crate) fn exists(data_dir: &Path) -> bool {
    Layout::of(data_dir).lock_file().exists()
}
