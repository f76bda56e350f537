//! The one task that knows all replicas and builds of a host.
//!
//! ```text
//! session ──Command──▶ hub ──Orders (watch)──▶ replica tasks
//!    ▲                  │ ▲                        │
//!    └──View (watch)────┘ └────────Event───────────┘
//! ```
//!
//! It never waits for a replica: orders go through a `watch`, which holds only the newest.

mod collect;
mod show;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use parallax_core::id::{BuildId, ReplicaId, TenantId};
use parallax_core::manifest::IsolationTier;
use parallax_core::replica::ReplicaPhase;
use parallax_core::status::Reason;
use parallax_proto::v1::{Desired, DesiredReplica};
use tokio::sync::{mpsc, oneshot, watch};

use crate::build::{BuildEvent, BuildQueue};
use crate::error::{HostError, chain};
use crate::link::LogTip;
use crate::reconcile::{SetChange, reconcile_set};
use crate::replica::{Actor, Assignment, Context, Event, Handle, Load, Orders, Secret, load};
use crate::view::View;

/// What the hub can be asked.
#[derive(Debug)]
pub(crate) enum Command {
    /// A server's word on what should run.
    Desired(Box<Desired>),
    /// Where the log of a replica or a build is.
    FindLog {
        source: String,
        tenant: String,
        found: oneshot::Sender<Option<LogSource>>,
    },
    /// Stop builds, and replicas too when a grace is given. Answered when nothing runs any more.
    Stop {
        grace: Option<Duration>,
        done: oneshot::Sender<()>,
    },
}

/// A log that can be read.
#[derive(Debug)]
pub(crate) struct LogSource {
    /// The folder that holds the incarnations.
    pub(crate) dir: PathBuf,
    pub(crate) tip: watch::Receiver<LogTip>,
}

/// What the hub is made of.
#[derive(Debug)]
pub(crate) struct Hub {
    context: Arc<Context>,
    max_replicas: usize,
    replicas: BTreeMap<ReplicaId, Entry>,
    builds: BuildQueue,
    view: watch::Sender<View>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Receiver<Event>,
    build_events: mpsc::Receiver<BuildEvent>,
    /// The only tenant that is served where nothing keeps tenants apart.
    only_tenant: Option<TenantId>,
    /// Builds that the server counts on, once it has said so.
    kept_builds: Option<BTreeSet<BuildId>>,
    /// Replicas of earlier hosts that have not reported yet.
    unheard: BTreeSet<ReplicaId>,
    /// Set while the host stops.
    stopping: Option<Stopping>,
}

#[derive(Debug)]
struct Entry {
    tenant: TenantId,
    runs: bool,
    /// What it may be running on: every build that it was ever to run on here.
    builds: BTreeSet<BuildId>,
    handle: Handle,
}

#[derive(Debug)]
struct Stopping {
    grace: Option<Duration>,
    done: Option<oneshot::Sender<()>>,
}

/// The channels of a hub.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) build_events: mpsc::Receiver<BuildEvent>,
    pub(crate) view: watch::Sender<View>,
}

impl Hub {
    /// Takes over what earlier hosts of the folder have left running. Blocks for file reads.
    ///
    /// # Errors
    /// When the folder cannot be listed. A replica whose records are damaged is left alone.
    pub(crate) fn load(
        context: Arc<Context>,
        mut builds: BuildQueue,
        max_replicas: u32,
        channels: Channels,
    ) -> Result<Self, HostError> {
        builds.load()?;
        let mut hub = Self {
            context,
            max_replicas: usize::try_from(max_replicas).unwrap_or(usize::MAX),
            replicas: BTreeMap::new(),
            builds,
            view: channels.view,
            commands: channels.commands,
            events: channels.events,
            build_events: channels.build_events,
            only_tenant: None,
            kept_builds: None,
            unheard: BTreeSet::new(),
            stopping: None,
        };
        let layout = hub.context.layout.clone();
        let ids = layout
            .replica_ids()
            .map_err(HostError::io("list", &layout.replicas()))?;
        let mut loads = Vec::new();
        for id in ids {
            match load(&layout, id) {
                Ok(Some(load)) => loads.push(load),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(replica = %id, error = chain(&error), "replica left alone");
                }
            }
        }
        if hub.context.sandbox.single_tenant() {
            let of_replicas = loads.iter().map(|load| load.assignment.tenant);
            hub.only_tenant = of_replicas.chain(hub.builds.tenants()).next();
        }
        for load in loads {
            hub.unheard.insert(load.assignment.replica);
            hub.adopt(load);
        }
        let states: Vec<_> = hub.builds.states().collect();
        hub.view.send_modify(|view| {
            let named = states
                .into_iter()
                .map(|it| (it.build_id.clone(), Arc::new(it)));
            view.builds = named.collect();
            view.loaded = hub.unheard.is_empty();
        });
        Ok(hub)
    }

    /// Serves until every way to the hub is closed.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.handle_command(command),
                    None => return,
                },
                Some(event) = self.events.recv() => self.handle_event(event),
                Some(event) = self.build_events.recv() => {
                    let left = matches!(event, BuildEvent::Left(_));
                    let changed = self.builds.take(event);
                    self.show_builds(changed);
                    if left {
                        self.collect();
                    }
                }
            }
            self.finish_stop();
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Desired(desired) => self.desire(&desired),
            Command::FindLog {
                source,
                tenant,
                found,
            } => {
                // Who asked may have gone meanwhile.
                let _ = found.send(self.find_log(&source, &tenant));
            }
            Command::Stop { grace, done } => {
                self.builds.stop();
                if grace.is_some() {
                    for entry in self.replicas.values() {
                        entry
                            .handle
                            .orders
                            .send_modify(|orders| orders.host_stops = grace);
                    }
                }
                self.stopping = Some(Stopping {
                    grace,
                    done: Some(done),
                });
            }
        }
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Observed(observed) => {
                if let Ok(id) = ReplicaId::from_str(&observed.replica_id) {
                    self.unheard.remove(&id);
                }
                let loaded = self.unheard.is_empty();
                self.view.send_modify(|view| {
                    view.loaded |= loaded;
                    view.replicas
                        .insert(observed.replica_id.clone(), Arc::from(observed));
                });
            }
            Event::BuildGone(folder) => {
                let removed = self.builds.give_up(folder);
                self.hide_builds(&removed);
            }
            Event::Gone(id) => {
                self.replicas.remove(&id);
                self.view.send_modify(|view| {
                    view.replicas.remove(&id.to_string());
                });
            }
        }
    }

    fn desire(&mut self, desired: &Desired) {
        if self.stopping.is_some() {
            return;
        }
        let mut named = BTreeSet::new();
        for wire in &desired.replicas {
            match Assignment::parse(wire) {
                Ok(assignment) => {
                    named.insert(assignment.replica);
                    self.assign(assignment, wire);
                }
                Err(error) => self.show_misunderstood(wire, chain(&error)),
            }
        }
        let known = self
            .replicas
            .iter()
            .map(|(id, entry)| (*id, entry.runs))
            .collect();
        let forget = desired
            .forget_replicas
            .iter()
            .filter_map(|id| id.parse().ok())
            .collect();
        for change in reconcile_set(&known, &named, desired.complete, &forget) {
            self.change(&change);
        }
        self.desire_builds(desired);
        if let Some(kept) = desired.kept_builds.as_ref().filter(|_| desired.complete) {
            let ids = kept.build_ids.iter().filter_map(|id| id.parse().ok());
            self.kept_builds = Some(ids.collect());
        }
        // A replica that was refused has no task; its refusal is told as long as it is asked for.
        let with_task: BTreeSet<String> = self.replicas.keys().map(ToString::to_string).collect();
        let asked_for: BTreeSet<&String> = desired
            .replicas
            .iter()
            .map(|wire| &wire.replica_id)
            .collect();
        self.view.send_modify(|view| {
            view.replicas.retain(|id, _| {
                let dropped = desired.complete || desired.forget_replicas.contains(id);
                with_task.contains(id) || asked_for.contains(id) || !dropped
            });
            view.generation = desired.generation;
        });
        self.collect();
    }

    fn desire_builds(&mut self, desired: &Desired) {
        let mut allowed = Vec::new();
        for wire in &desired.builds {
            let tenant = wire.tenant_id.parse().ok();
            match tenant.and_then(|tenant| self.refusal(tenant)) {
                Some(words) if !wire.cancel => {
                    let refused = self.builds.refuse(wire, &words);
                    self.show_builds(refused);
                }
                _ => allowed.push(wire.clone()),
            }
        }
        let changed = self.builds.desire(&allowed, desired.complete);
        self.show_builds(changed);
    }

    fn assign(&mut self, assignment: Assignment, wire: &DesiredReplica) {
        let id = assignment.replica;
        let refusal = self
            .refusal(assignment.tenant)
            .or_else(|| tier_refusal(assignment.spec.isolation));
        let token = Secret::new(&wire.token);
        let runs = assignment.run;
        if let Some(entry) = self.replicas.get_mut(&id) {
            if entry.tenant != assignment.tenant {
                return self.show_misunderstood(wire, format!("{id} belongs to another tenant"));
            }
            entry.runs = runs;
            entry.builds.insert(assignment.build);
            entry.handle.orders.send_modify(|orders| {
                orders.assignment = assignment;
                // A server that leaves the credential out does not take it away.
                orders.token = token.or_else(|| orders.token.take());
                orders.ca_pem = Some(wire.ca_pem.clone());
                orders.confirmed = true;
                orders.refusal = refusal;
            });
            return;
        }
        if runs && self.replicas.values().filter(|it| it.runs).count() >= self.max_replicas {
            let words = format!("this host takes at most {} replicas", self.max_replicas);
            return self.show_refused(wire, Reason::Unschedulable, words);
        }
        let (tenant, builds) = (assignment.tenant, BTreeSet::from([assignment.build]));
        let orders = Orders {
            assignment,
            token,
            ca_pem: Some(wire.ca_pem.clone()),
            confirmed: true,
            refusal,
            forget: false,
            host_stops: None,
        };
        let handle = Actor::spawn(self.context.clone(), orders, None);
        self.replicas.insert(
            id,
            Entry {
                tenant,
                runs,
                builds,
                handle,
            },
        );
    }

    fn adopt(&mut self, load: Load) {
        let assignment = load.assignment.clone();
        let (id, tenant, runs) = (assignment.replica, assignment.tenant, assignment.run);
        let builds = BTreeSet::from([assignment.build]);
        let orders = Orders {
            refusal: self
                .refusal(tenant)
                .or_else(|| tier_refusal(assignment.spec.isolation)),
            assignment,
            token: None,
            ca_pem: None,
            confirmed: false,
            forget: false,
            host_stops: None,
        };
        let handle = Actor::spawn(self.context.clone(), orders, Some(load));
        self.replicas.insert(
            id,
            Entry {
                tenant,
                runs,
                builds,
                handle,
            },
        );
    }

    fn change(&mut self, change: &SetChange) {
        let (SetChange::Stop(id) | SetChange::Forget(id)) = change;
        let Some(entry) = self.replicas.get_mut(id) else {
            return;
        };
        match change {
            SetChange::Stop(_) => {
                entry.runs = false;
                entry.handle.orders.send_modify(|orders| {
                    orders.assignment.run = false;
                    orders.confirmed = true;
                });
            }
            SetChange::Forget(_) => {
                entry
                    .handle
                    .orders
                    .send_modify(|orders| orders.forget = true);
            }
        }
    }

    /// Why nothing of a tenant may run here. Where only one can be served, the first one is it.
    fn refusal(&mut self, tenant: TenantId) -> Option<String> {
        if self.context.sandbox.refuses_all() {
            return Some(NO_ISOLATION.to_owned());
        }
        if !self.context.sandbox.single_tenant() {
            return None;
        }
        let only = *self.only_tenant.get_or_insert(tenant);
        (only != tenant).then(|| ANOTHER_TENANT.to_owned())
    }

    fn finish_stop(&mut self) {
        let Some(stopping) = &mut self.stopping else {
            return;
        };
        let alive = stopping.grace.is_some() && {
            let view = self.view.borrow();
            self.replicas.keys().any(|id| {
                view.replicas
                    .get(&id.to_string())
                    .is_none_or(|it| !is_over(&it.phase))
            })
        };
        if !alive
            && self.builds.is_idle()
            && let Some(done) = stopping.done.take()
        {
            // Who asked may have lost patience.
            let _ = done.send(());
        }
    }
}

const NO_ISOLATION: &str = "this machine has no means to keep agents apart (Landlock of Linux 6.12 or bubblewrap); run `parallax doctor` on it, or start it with --unsafe-no-isolation to serve one trusted tenant";
const ANOTHER_TENANT: &str = "this host has no isolation and already serves another tenant";

fn tier_refusal(tier: IsolationTier) -> Option<String> {
    match tier {
        IsolationTier::Process => None,
        IsolationTier::Runc | IsolationTier::Gvisor => Some(format!(
            "the agent demands isolation `{tier}`, and this host offers only `process`"
        )),
    }
}

fn is_over(phase: &str) -> bool {
    phase.parse().is_ok_and(ReplicaPhase::is_over)
}

#[cfg(test)]
mod tests;
