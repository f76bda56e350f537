//! The task that sees to one replica: it follows orders, acts by [`crate::reconcile`], and reports.

mod disk;
mod outdated;
mod sampling;
mod stopping;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parallax_core::id::{BuildId, ReplicaId};
use parallax_core::status::Reason;
use parallax_core::time::Timestamp;
use parallax_proto::v1::ObservedReplica;
use parallax_shim::cgroup::Cgroup;
use parallax_shim::durable;
use parallax_shim::record::StateRecord;
use parallax_shim::spec::{LogLimits, ShimSpec};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::account::{self, Excess};
use super::record::{Assignment, Load, Progress, Secret};
use super::turns::Turns;
use super::{files, launch, observe};
use crate::clock::now;
use crate::error::{HostError, blocking, chain};
use crate::isolation::Sandbox;
use crate::layout::{Layout, ReplicaDir};
use crate::limits::{self, Limiter};
use crate::link::{self, End, Launched, Link, LogTip, Tree};
use crate::prepared::{Prepared, PreparedBuilds};
use crate::probe::Probe;
use crate::reconcile::{Action, Actual, Process, State, Wanted, reconcile};
use crate::task::Task;
use crate::usage::Usage;
use outdated::Turn;
use stopping::Stopping;

/// Between attempts at what the operating system refused.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What all replicas of a host share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) layout: Layout,
    pub(crate) shim_program: PathBuf,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) log_limits: LogLimits,
    pub(crate) time_zone: Option<String>,
    pub(crate) usage_interval: Duration,
    /// One replica of an agent at a time is replaced.
    pub(crate) turns: Turns,
    /// Where replicas report to.
    pub(crate) events: mpsc::Sender<Event>,
    /// The revisions that can be started.
    pub(crate) prepared: watch::Receiver<Arc<PreparedBuilds>>,
}

/// What a replica reports.
#[derive(Debug)]
pub(crate) enum Event {
    Observed(Box<ObservedReplica>),
    /// Files of the revision in the folder of this build are gone: nothing can be started from it.
    BuildGone(BuildId),
    /// It was forgotten: nothing of it is left.
    Gone(ReplicaId),
}

/// What is asked of a replica now; a newer one replaces an older one.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) assignment: Assignment,
    pub(crate) token: Option<Secret>,
    /// `None` leaves the certificates as they are.
    pub(crate) ca_pem: Option<Bytes>,
    /// Whether a server has asked for it since the host started.
    pub(crate) confirmed: bool,
    /// Why this host must not run it, in words.
    pub(crate) refusal: Option<String>,
    /// Whether its records and files may go once it has ended.
    pub(crate) forget: bool,
    /// Set when the host stops with its replicas: the longest grace that is left.
    pub(crate) host_stops: Option<Duration>,
}

/// The way to a replica's task. Dropping it ends the task and leaves the process.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) orders: watch::Sender<Orders>,
    pub(crate) tip: watch::Receiver<LogTip>,
    _task: Task,
}

/// One replica.
#[derive(Debug)]
pub(crate) struct Actor {
    context: Arc<Context>,
    id: ReplicaId,
    dir: ReplicaDir,
    incoming: watch::Receiver<Orders>,
    prepared: watch::Receiver<Arc<PreparedBuilds>>,
    /// A prepared revision that was found damaged: nothing is started from it.
    gone: Option<Arc<Prepared>>,
    tip: watch::Sender<LogTip>,
    orders: Orders,
    pub(super) progress: Progress,
    pub(super) incarnation: u64,
    pub(super) running: Option<Running>,
    pub(super) usage: Usage,
    state: Option<State>,
    /// What stands in the way of following orders.
    trouble: Option<(Reason, String)>,
    cgroup: Option<Cgroup>,
    /// Held while the process is being replaced.
    turn: Option<Turn>,
    written: Written,
    reported: Option<ObservedReplica>,
    usage_due: Instant,
}

/// A process and what is known of it.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) link: Link,
    pub(super) state: StateRecord,
    pub(super) probe: Option<Probe>,
    pub(super) stopping: Option<Stopping>,
    /// Where it was told that its server is.
    pub(super) dials: Option<String>,
    /// Why the host has killed it.
    pub(super) excess: Option<Excess>,
    /// Whether it was seen to have ended, of which its shim had not told yet.
    pub(super) silent_end: bool,
}

/// What of the orders is on disk.
#[derive(Debug, Default)]
struct Written {
    assignment: Option<Assignment>,
    token: Option<Secret>,
    ca_pem: Option<Bytes>,
}

impl Actor {
    /// Starts the task of a replica; `load` is what its folder held at the start of the host.
    pub(crate) fn spawn(context: Arc<Context>, orders: Orders, load: Option<Load>) -> Handle {
        let (tell, incoming) = watch::channel(orders.clone());
        let (tip, seen) = watch::channel(LogTip::default());
        let id = orders.assignment.replica;
        let mut actor = Self {
            dir: context.layout.replica(id),
            prepared: context.prepared.clone(),
            gone: None,
            context,
            id,
            incoming,
            tip,
            orders,
            progress: Progress::default(),
            incarnation: 0,
            running: None,
            usage: Usage::default(),
            state: None,
            trouble: None,
            cgroup: None,
            turn: None,
            written: Written::default(),
            reported: None,
            usage_due: Instant::now(),
        };
        if let Some(load) = load {
            actor.progress = load.progress;
            actor.incarnation = load.incarnation;
            actor.written.assignment = Some(load.assignment);
        }
        let task = Task::spawn(actor.run());
        Handle {
            orders: tell,
            tip: seen,
            _task: task,
        }
    }

    async fn run(mut self) {
        self.take_over().await;
        loop {
            self.orders = self.incoming.borrow_and_update().clone();
            self.prepared.mark_unchanged();
            self.trouble = None;
            if let Err(error) = self.write_orders().await {
                self.fail("keep its orders", &error);
            }
            let act = self.act();
            // The start of a process is a large future; most turns need none of it.
            Box::pin(act).await;
            if self.orders.forget && self.running.is_none() && self.forget().await {
                return;
            }
            self.end_turn();
            self.report().await;
            if !self.wait().await {
                return;
            }
        }
    }

    fn attach(&mut self, state: StateRecord) {
        let dir = self.dir.incarnation(self.incarnation);
        // The spec was written by this host's hand; without it there is nothing to ask or compare.
        let spec = ShimSpec::load(&dir).ok().flatten();
        let told = |name: &str| spec.as_ref().and_then(|spec| spec.env.get(name).cloned());
        let port = told("PORT").and_then(|port| port.parse().ok());
        let tree = Tree::new(&dir, state.clone());
        let link = Link::follow(tree, self.incarnation, self.tip.clone());
        let probe = self.orders.assignment.spec.probe.clone();
        self.running = Some(Running {
            link,
            state,
            probe: probe
                .zip(port)
                .map(|(probe, port)| Probe::start(probe, port)),
            stopping: None,
            dials: told("PARALLAX_URL"),
            excess: None,
            silent_end: false,
        });
        self.usage = Usage::default();
        self.usage_due = Instant::now();
    }

    /// Does what [`reconcile`] says, until it only reports.
    async fn act(&mut self) {
        loop {
            let actions = reconcile(self.wanted(), &self.actual(), now());
            let mut started = false;
            for action in actions {
                match action {
                    Action::Report(state) => self.state = Some(state),
                    Action::Stop { grace } => self.stop(grace).await,
                    Action::Release => self.release().await,
                    Action::Start => {
                        started = true;
                        self.start().await;
                    }
                }
            }
            if !started {
                return;
            }
        }
    }

    fn wanted(&self) -> Wanted {
        let own = Duration::from_millis(self.orders.assignment.stop_grace_ms);
        let stops = self.orders.host_stops;
        Wanted {
            run: self.orders.assignment.run && stops.is_none(),
            grace: stops.map_or(own, |left| own.min(left)),
            may_start: self.orders.confirmed || !self.was_stopped_on_purpose(),
        }
    }

    fn was_stopped_on_purpose(&self) -> bool {
        self.progress
            .last
            .as_ref()
            .is_some_and(|last| last.on_purpose)
    }

    fn actual(&self) -> Actual {
        let process = match &self.running {
            None => Process::None,
            Some(Running { stopping: None, .. }) => Process::Alive,
            Some(_) => Process::Stopping,
        };
        let last = self.progress.last.as_ref();
        Actual {
            process,
            prepared: self.prepared().is_some(),
            refused: self.orders.refusal.is_some(),
            outdated: self.turn.is_some() && self.is_outdated(),
            crashes: self.progress.crashes,
            ended_at: last.map(|last| last.at),
            end_recorded: last.is_none_or(|last| last.recorded),
        }
    }

    fn prepared(&self) -> Option<Arc<Prepared>> {
        let gone =
            |it: &&Arc<Prepared>| self.gone.as_ref().is_some_and(|gone| Arc::ptr_eq(gone, it));
        self.prepared
            .borrow()
            .get(&self.orders.assignment.build)
            .filter(|it| !gone(it))
            .cloned()
    }

    async fn start(&mut self) {
        let prepared = self
            .prepared()
            .expect("reconcile starts only what is prepared");
        if self.is_damaged(&prepared).await {
            return;
        }
        if self.incarnation > 0 {
            self.progress.restarts = self.progress.restarts.saturating_add(1);
        }
        self.incarnation += 1;
        self.state = None;
        self.report().await;
        let (context, assignment) = (self.context.clone(), self.orders.assignment.clone());
        let (incarnation, progress, dir) =
            (self.incarnation, self.progress.clone(), self.dir.clone());
        let ready = blocking(move || {
            files::make_folders(&dir)?;
            durable::write_json(&dir.progress(), &progress)?;
            launch::prepare(&context, &assignment, &prepared, incarnation)
        })
        .await;
        let ready = match ready {
            Ok(ready) => ready,
            Err(error) => {
                let reason = if error.is_storage_full() {
                    Reason::StorageFull
                } else {
                    Reason::StartFailed
                };
                return self.start_failed(reason, chain(&error)).await;
            }
        };
        self.cgroup = ready.cgroup;
        match link::launch(&self.context.shim_program, &ready.dir).await {
            Ok(Launched::Running(state)) => self.attach(state),
            Ok(Launched::Ended(record)) => {
                let started = self.recorded_start(&ready.dir);
                self.ended(End::Recorded(record), started).await;
            }
            Err(error) => self.start_failed(Reason::StartFailed, chain(&error)).await,
        }
    }

    async fn start_failed(&mut self, reason: Reason, words: String) {
        tracing::warn!(replica = %self.id, %reason, words, "replica not started");
        self.progress =
            account::account_failed_start(&self.progress, self.incarnation, reason, words, now());
        self.release().await;
        self.write_progress().await;
    }

    async fn ended(&mut self, end: End, started: Option<Timestamp>) {
        let excess = self.running.take().and_then(|running| running.excess);
        self.usage = Usage::default();
        let wanted = self.orders.assignment.run && self.orders.host_stops.is_none();
        self.progress = account::account(
            &self.progress,
            self.incarnation,
            &end,
            wanted,
            excess,
            started,
            now(),
        );
        // The next incarnation gets a cgroup of its own, so that counters begin at zero.
        self.release().await;
        self.write_progress().await;
    }

    async fn write_progress(&mut self) {
        let (path, progress) = (self.dir.progress(), self.progress.clone());
        let written = blocking(move || Ok(durable::write_json(&path, &progress)?)).await;
        if let Err(error) = written {
            // The records of the shim are still there: the next host accounts for them again.
            self.fail("keep its record", &error);
        }
    }

    async fn release(&mut self) {
        let Some(cgroup) = self.cgroup.take() else {
            return;
        };
        let removed = blocking(move || {
            limits::remove(&cgroup);
            Ok(())
        });
        if let Err(error) = removed.await {
            self.fail("give its cgroup back", &error);
        }
    }

    fn fail(&mut self, what: &str, error: &HostError) {
        let reason = if error.is_storage_full() {
            Reason::StorageFull
        } else {
            Reason::StartFailed
        };
        let words = format!("the host cannot {what}: {}", chain(error));
        tracing::warn!(replica = %self.id, words, "replica in trouble; trying again");
        self.trouble = Some((reason, words));
    }

    /// Tells the hub what is so, if that has changed.
    async fn report(&mut self) {
        let observed = observe::observe(self);
        if self.reported.as_ref() == Some(&observed) {
            return;
        }
        self.reported = Some(observed.clone());
        // The hub is gone only when the host is.
        let _ = self
            .context
            .events
            .send(Event::Observed(Box::new(observed)))
            .await;
    }

    /// Waits until there is something to do; false when the host is gone.
    async fn wait(&mut self) -> bool {
        let wake = self.wake_at();
        let sampling = self.running.is_some().then_some(self.usage_due);
        let queued = self.turn.is_none() && self.is_outdated();
        let agent = self.orders.assignment.agent;
        tokio::select! {
            changed = self.incoming.changed() => return changed.is_ok(),
            changed = self.prepared.changed() => return changed.is_ok(),
            end = ended_or_probed(&mut self.running) => {
                let started = self.running.as_ref().map(|running| observe::started(&running.state));
                if let Some(end) = end {
                    self.ended(end, started).await;
                }
            }
            () = sleep_until(wake) => {
                if let Some(stopping) = self.overdue() {
                    self.escalate(stopping).await;
                }
            }
            () = sleep_until(sampling) => self.sample().await,
            permit = self.context.turns.take(agent), if queued => {
                tracing::info!(replica = %self.id, "its server has moved; it is started anew");
                self.turn = Some(Turn::new(permit));
            }
        }
        true
    }

    fn wake_at(&self) -> Option<Instant> {
        let retry = self.trouble.is_some().then(|| Instant::now() + TRY_AGAIN);
        let stuck = self
            .running
            .as_ref()
            .and_then(|running| Some(running.stopping?.due));
        let backoff = match self.state {
            Some(State::Backoff { until }) => Some(Instant::now() + until.since(now())),
            _ => None,
        };
        let settled = self.turn.as_ref().and_then(Turn::ends);
        [retry, stuck, backoff, settled].into_iter().flatten().min()
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    pub(super) fn orders(&self) -> &Orders {
        &self.orders
    }

    pub(super) fn state(&self) -> Option<State> {
        self.state
    }

    pub(super) fn trouble(&self) -> Option<&(Reason, String)> {
        self.trouble.as_ref()
    }
}

/// The end of the process, or `None` when the probe has something new to say.
async fn ended_or_probed(running: &mut Option<Running>) -> Option<End> {
    let Some(running) = running else {
        return std::future::pending().await;
    };
    match &mut running.probe {
        None => Some(running.link.ended().await),
        Some(probe) => tokio::select! {
            end = running.link.ended() => Some(end),
            () = probe.changed() => None,
        },
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
