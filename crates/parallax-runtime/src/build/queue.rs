//! The builds of a host: which wait, which run, which revisions are prepared.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use parallax_core::build::BuildPhase;
use parallax_core::id::{BuildId, TenantId};
use parallax_core::status::Reason;
use parallax_core::time::Timestamp;
use parallax_proto::v1::{BuildState, DesiredBuild};
use parallax_shim::durable;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::collect::{self, Candidate, Round};
use super::job::{BuildContext, BuildEvent, Job};
use super::record::BuildRecord;
use crate::clock::now;
use crate::error::{HostError, blocking, chain};
use crate::layout::{make_private, remove_file};
use crate::link::LogTip;
use crate::prepared::PreparedBuilds;
use crate::task::Task;

/// The builds of a host. Owned by the hub, which feeds it desired builds and events.
#[derive(Debug)]
pub(crate) struct BuildQueue {
    context: Arc<BuildContext>,
    concurrent: usize,
    capacity: usize,
    builds: BTreeMap<BuildId, Entry>,
    waiting: VecDeque<BuildId>,
    running: BTreeMap<BuildId, Running>,
    /// Folders of builds that are none any more, with the builds that replicas may still run on
    /// there.
    leftovers: BTreeMap<BuildId, BTreeSet<BuildId>>,
    publish: watch::Sender<Arc<PreparedBuilds>>,
    host_stops: CancellationToken,
    /// A round of collection moves things: no build begins.
    collecting: bool,
    /// Moves and then removes them.
    round: Option<Task>,
}

#[derive(Debug)]
struct Entry {
    record: BuildRecord,
    tip: watch::Sender<LogTip>,
    /// When it was last seen to be needed.
    used_at: Timestamp,
}

#[derive(Debug)]
struct Running {
    cancel: CancellationToken,
    _task: Task,
}

impl BuildQueue {
    /// A queue of at most `capacity` waiting builds, `concurrent` at work. Prepared revisions are
    /// published through `publish`.
    pub(crate) fn new(
        context: Arc<BuildContext>,
        concurrent: usize,
        capacity: usize,
        publish: watch::Sender<Arc<PreparedBuilds>>,
    ) -> Self {
        Self {
            context,
            concurrent: concurrent.max(1),
            capacity,
            builds: BTreeMap::new(),
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            leftovers: BTreeMap::new(),
            publish,
            host_stops: CancellationToken::new(),
            collecting: false,
            round: None,
        }
    }

    /// Reads what earlier hosts have built; unfinished builds begin anew. Blocks for file reads.
    ///
    /// # Errors
    /// When the folder cannot be listed. A build whose record is damaged is left out.
    pub(crate) fn load(&mut self) -> Result<(), HostError> {
        let layout = self.context.layout.clone();
        let ids = layout
            .build_ids()
            .map_err(HostError::io("list", &layout.builds()))?;
        let mut without_record = Vec::new();
        for id in ids {
            match BuildRecord::load(&layout.build(id)) {
                Ok(Some(record)) => {
                    let used_at = collect::last_use(&layout.build(id).record());
                    self.adopt(record, used_at);
                }
                Ok(None) => without_record.push(id),
                Err(error) => {
                    tracing::warn!(build = %id, error = chain(&error), "build left out");
                }
            }
        }
        for folder in without_record {
            let users = self.users_of(folder);
            self.leftovers.insert(folder, users);
        }
        self.publish_prepared();
        self.start_more();
        Ok(())
    }

    /// Takes in what a server wants, and says which builds have changed.
    pub(crate) fn desire(&mut self, wanted: &[DesiredBuild], complete: bool) -> Vec<BuildState> {
        let mut changed = Vec::new();
        let mut named = BTreeSet::new();
        for wire in wanted {
            match BuildRecord::parse(wire) {
                Ok(record) => {
                    named.insert(record.build);
                    if wire.cancel {
                        changed.extend(self.cancel(record.build));
                    } else {
                        changed.extend(self.add(record));
                    }
                }
                Err(error) => changed.push(BuildState {
                    build_id: wire.build_id.clone(),
                    tenant_id: wire.tenant_id.clone(),
                    phase: BuildPhase::Failed.as_str().to_owned(),
                    reason: Reason::PlanFailed.as_str().to_owned(),
                    message: chain(&error),
                    ..BuildState::default()
                }),
            }
        }
        if complete {
            let unfinished = self
                .builds
                .iter()
                .filter(|(_, it)| !it.record.phase.is_terminal());
            let dropped: Vec<BuildId> = unfinished
                .map(|(id, _)| *id)
                .filter(|id| !named.contains(id))
                .collect();
            for id in dropped {
                changed.extend(self.cancel(id));
            }
        }
        self.start_more();
        changed
    }

    /// Refuses a build that the host must not run.
    pub(crate) fn refuse(&mut self, wire: &DesiredBuild, words: &str) -> Option<BuildState> {
        let mut record = BuildRecord::parse(wire).ok()?;
        record.fail(Reason::IsolationUnavailable, words.to_owned(), now());
        Some(record.to_wire())
    }

    /// Takes in what a build reports, and says which build has changed.
    pub(crate) fn take(&mut self, event: BuildEvent) -> Option<BuildState> {
        match event {
            BuildEvent::Moved(record) => {
                let entry = self.builds.get_mut(&record.build)?;
                entry.record = *record;
                let told = entry.record.to_wire();
                if entry.record.phase == BuildPhase::Succeeded {
                    self.publish_prepared();
                }
                Some(told)
            }
            BuildEvent::Left(id) => {
                self.running.remove(&id);
                if let Some(entry) = self.builds.get(&id)
                    && entry.record.phase.is_terminal()
                {
                    entry.tip.send_modify(|tip| tip.over = true);
                }
                self.start_more();
                None
            }
            BuildEvent::Collected => {
                self.collecting = false;
                self.start_more();
                None
            }
        }
    }

    /// Gives up the builds whose prepared revision lies in `folder`, because files of it are gone;
    /// says which. Nothing starts from there any more; what is left there goes once nothing can be
    /// running on it.
    pub(crate) fn give_up(&mut self, folder: BuildId) -> Vec<BuildId> {
        let users = self.users_of(folder);
        let known: Vec<BuildId> = users
            .iter()
            .copied()
            .filter(|id| self.builds.remove(id).is_some())
            .collect();
        for id in &known {
            // Or the next host would believe that it is prepared.
            let path = self.context.layout.build(*id).record();
            if let Err(error) = remove_file(&path) {
                tracing::warn!(build = %id, error = chain(&error), "build not given up for good");
            }
        }
        self.leftovers.entry(folder).or_default().extend(users);
        self.publish_prepared();
        known
    }

    /// The builds whose prepared revision lies in `folder`, that one's own included.
    fn users_of(&self, folder: BuildId) -> BTreeSet<BuildId> {
        let users = self.succeeded().filter(|it| it.app == Some(folder));
        users.map(|it| it.build).chain([folder]).collect()
    }

    /// Gives up builds that nobody needs, but for those that were needed last; says which. Does
    /// nothing while there is anything to build: the next call makes up for it.
    pub(crate) fn collect(&mut self, needed: &BTreeSet<BuildId>) -> Vec<BuildId> {
        let busy = !self.running.is_empty() || !self.waiting.is_empty();
        let at_it = self.round.as_mut().is_some_and(|it| !it.is_finished());
        if busy || at_it || self.host_stops.is_cancelled() {
            return Vec::new();
        }
        let now = now();
        let mut touch = Vec::new();
        for (id, entry) in self.builds.iter_mut().filter(|(id, _)| needed.contains(id)) {
            entry.used_at = now;
            touch.push(*id);
        }
        let all = self.builds.values().map(|entry| Candidate {
            record: &entry.record,
            used_at: entry.used_at,
        });
        let remove = collect::surplus(all, needed);
        for id in &remove {
            tracing::info!(build = %id, "removed: nobody needs it");
            self.builds.remove(id);
        }
        if !remove.is_empty() {
            // Before anything is moved, so that nothing is started there.
            self.publish_prepared();
        }
        let (used, unused): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.leftovers)
            .into_iter()
            .partition(|(_, users)| !users.is_disjoint(needed));
        self.leftovers = used;
        let round = Round {
            layout: self.context.layout.clone(),
            remove: remove.iter().copied().chain(unused.into_keys()).collect(),
            touch,
        };
        self.collecting = true;
        self.round = Some(Task::spawn(take_away(round, self.context.events.clone())));
        remove
    }

    /// Every build that the host knows.
    pub(crate) fn states(&self) -> impl Iterator<Item = BuildState> {
        self.builds.values().map(|entry| entry.record.to_wire())
    }

    /// The tenants of all builds.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = TenantId> {
        self.builds.values().map(|entry| entry.record.tenant)
    }

    /// Where a build's log moves, and whose it is.
    pub(crate) fn log(&self, id: BuildId) -> Option<(TenantId, watch::Receiver<LogTip>)> {
        let entry = self.builds.get(&id)?;
        Some((entry.record.tenant, entry.tip.subscribe()))
    }

    /// Kills what runs; it begins anew with the next host. Done when [`Self::is_idle`].
    pub(crate) fn stop(&mut self) {
        self.waiting.clear();
        self.host_stops.cancel();
        for running in self.running.values() {
            running.cancel.cancel();
        }
    }

    /// Whether nothing runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    fn adopt(&mut self, mut record: BuildRecord, used_at: Timestamp) {
        let id = record.build;
        let over = record.phase.is_terminal();
        if !over {
            record.begin_anew();
            self.waiting.push_back(id);
        }
        let (tip, _) = watch::channel(LogTip {
            over,
            ..LogTip::default()
        });
        let entry = Entry {
            record,
            tip,
            used_at,
        };
        self.builds.insert(id, entry);
    }

    fn add(&mut self, mut record: BuildRecord) -> Option<BuildState> {
        let id = record.build;
        if self.builds.contains_key(&id) {
            return None;
        }
        if self.waiting.len() >= self.capacity {
            let words = "this host has too many builds waiting; deploy again later";
            record.fail(Reason::BuildFailed, words.to_owned(), now());
            return Some(record.to_wire());
        }
        if let Some(own) = self.context.timeout {
            let own = u64::try_from(own.as_millis()).unwrap_or(u64::MAX);
            record.deadline_ms = record.deadline_ms.min(own);
        }
        // So that the build is not forgotten when the host ends before its turn comes. Without
        // the file it is only asked for again.
        let dir = self.context.layout.build(id);
        let kept = make_private(dir.path())
            .and_then(|()| Ok(durable::write_json(&dir.record(), &record)?));
        if let Err(error) = kept {
            tracing::warn!(build = %id, error = chain(&error), "waiting build not written down");
        }
        self.leftovers.remove(&id);
        let told = record.to_wire();
        self.adopt(record, now());
        Some(told)
    }

    fn cancel(&mut self, id: BuildId) -> Option<BuildState> {
        if let Some(running) = self.running.get(&id) {
            running.cancel.cancel();
            return None;
        }
        let entry = self.builds.get_mut(&id)?;
        if entry.record.phase.is_terminal() {
            return None;
        }
        self.waiting.retain(|waiting| *waiting != id);
        let words = "the build was cancelled before it began";
        entry
            .record
            .fail(Reason::BuildCancelled, words.to_owned(), now());
        entry.tip.send_modify(|tip| tip.over = true);
        let path = self.context.layout.build(id).record();
        if let Err(error) = durable::write_json(&path, &entry.record) {
            tracing::warn!(build = %id, error = chain(&error), "cancelled build not written down");
        }
        Some(entry.record.to_wire())
    }

    fn start_more(&mut self) {
        let held = self.collecting || self.host_stops.is_cancelled();
        while self.running.len() < self.concurrent && !held {
            let Some(id) = self.waiting.pop_front() else {
                return;
            };
            let Some(entry) = self.builds.get(&id) else {
                continue;
            };
            let cancel = CancellationToken::new();
            let job = Job {
                context: self.context.clone(),
                record: entry.record.clone(),
                prepared: self.by_key(),
                tip: entry.tip.clone(),
                cancel: cancel.clone(),
                host_stops: self.host_stops.clone(),
            };
            let task = Task::spawn(job.run());
            self.running.insert(
                id,
                Running {
                    cancel,
                    _task: task,
                },
            );
        }
    }

    /// Prepared revisions by what makes them interchangeable.
    fn by_key(&self) -> BTreeMap<String, BuildId> {
        self.succeeded()
            .filter_map(|record| Some((record.key.clone()?, record.app?)))
            .collect()
    }

    fn succeeded(&self) -> impl Iterator<Item = &BuildRecord> {
        let records = self.builds.values().map(|entry| &entry.record);
        records.filter(|record| record.phase == BuildPhase::Succeeded)
    }

    fn publish_prepared(&self) {
        let prepared: PreparedBuilds = self
            .succeeded()
            .filter_map(|record| {
                let prepared = self.context.prepared(record)?;
                Some((record.build, Arc::new(prepared)))
            })
            .collect();
        self.publish.send_replace(Arc::new(prepared));
    }
}

/// Carries out a round, lets builds begin again, and then removes what was taken away.
async fn take_away(round: Round, events: mpsc::Sender<BuildEvent>) {
    let layout = round.layout.clone();
    if let Err(error) = blocking(move || round.take_away()).await {
        tracing::warn!(
            error = chain(&error),
            "not everything that is unused was moved"
        );
    }
    // The hub is gone only when the host is.
    let _ = events.send(BuildEvent::Collected).await;
    let emptied = blocking(move || {
        collect::empty_trash(&layout);
        Ok(())
    });
    // The host is shutting down: the next one empties it.
    let _ = emptied.await;
}
