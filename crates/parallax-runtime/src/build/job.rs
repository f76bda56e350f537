//! One build from its source to its end.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parallax_builder::plan::{Phase, Step};
use parallax_builder::prepare::{self, Limits, UnpackError};
use parallax_builder::{Plan, PlanError, SourceTree, Toolchain};
use parallax_core::build::BuildPhase;
use parallax_core::id::BuildId;
use parallax_core::manifest::BuildSpec;
use parallax_core::status::Reason;
use parallax_shim::durable;
use parallax_shim::spec::LogLimits;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cache::Dependencies;
use super::fetch::{Connection, FetchError, fetch, hex};
use super::record::BuildRecord;
use super::steps::{self, Run};
use crate::clock::now;
use crate::error::{HostError, blocking, chain, is_full};
use crate::isolation::Sandbox;
use crate::layout::{BuildDir, Layout, make_private, remove_tree};
use crate::limits::Limiter;
use crate::link::LogTip;
use crate::prepared::Prepared;

/// What all builds of a host share.
#[derive(Debug)]
pub(crate) struct BuildContext {
    pub(crate) layout: Layout,
    pub(crate) shim_program: PathBuf,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) toolchain: Arc<Toolchain>,
    pub(crate) log_limits: LogLimits,
    pub(crate) build_env: BTreeMap<String, String>,
    /// How long a build may take, where the server allows more.
    pub(crate) timeout: Option<Duration>,
    /// Where builds report to.
    pub(crate) events: mpsc::Sender<BuildEvent>,
    /// The control plane, while there is contact.
    pub(crate) connections: watch::Receiver<Option<Connection>>,
}

impl BuildContext {
    /// The revision that a build has prepared; `None` of one that has not.
    pub(super) fn prepared(&self, record: &BuildRecord) -> Option<Prepared> {
        let build = record.app?;
        let dir = self.layout.build(build);
        let mut essential = vec![dir.record()];
        essential.extend(record.program.clone());
        Some(Prepared {
            build,
            dir: dir.app(),
            plan: record.plan.clone()?,
            toolchain: self.toolchain.clone(),
            essential,
        })
    }
}

/// What a build reports.
#[derive(Debug)]
pub(crate) enum BuildEvent {
    /// It has come further, or has ended.
    Moved(Box<BuildRecord>),
    /// Nothing of it runs any more; only this makes room for the next.
    Left(BuildId),
    /// A round of collection has taken away what it was to.
    Collected,
}

/// Why a build has no result.
#[derive(Debug)]
pub(super) struct Failure {
    reason: Reason,
    message: String,
}

impl Failure {
    pub(super) fn new(reason: Reason, message: String) -> Self {
        Self { reason, message }
    }

    pub(super) fn cancelled() -> Self {
        Self::new(Reason::BuildCancelled, "the build was cancelled".to_owned())
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        let reason = if error.is_storage_full() {
            Reason::StorageFull
        } else {
            Reason::BuildFailed
        };
        Self::new(
            reason,
            format!("the host could not go on: {}", chain(&error)),
        )
    }
}

/// A build at work.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) context: Arc<BuildContext>,
    pub(super) record: BuildRecord,
    /// Prepared revisions that an equal build may use, by key.
    pub(super) prepared: BTreeMap<String, BuildId>,
    pub(super) tip: watch::Sender<LogTip>,
    /// Cancelled when the build is no longer wanted, and when the host stops.
    pub(super) cancel: CancellationToken,
    /// Cancelled only when the host stops: the build stays unfinished then.
    pub(super) host_stops: CancellationToken,
}

impl Job {
    /// Builds, reports each step of the way, and leaves a record of the end.
    pub(super) async fn run(mut self) {
        self.record.started_at = Some(now());
        let deadline = Instant::now() + Duration::from_millis(self.record.deadline_ms);
        let result = self.work(deadline).await;
        if !self.host_stops.is_cancelled() {
            match result {
                Ok(app) => {
                    self.record.succeed(app, now());
                    self.note_program().await;
                }
                Err(failure) => {
                    self.discard().await;
                    self.record.fail(failure.reason, failure.message, now());
                }
            }
            if let Err(failure) = self.keep_record().await {
                // Without its record a revision is not there after a restart: it must not count.
                self.record.fail(failure.reason, failure.message, now());
            }
            tracing::info!(build = %self.record.build, phase = %self.record.phase, "build ended");
            self.report().await;
        }
        // The hub is gone only when the host is.
        let _ = self
            .context
            .events
            .send(BuildEvent::Left(self.record.build))
            .await;
    }

    async fn work(&mut self, deadline: Instant) -> Result<BuildId, Failure> {
        let dir = self.context.layout.build(self.record.build);
        self.begin(&dir).await?;
        let archive = self.fetch(deadline).await?;
        self.advance(BuildPhase::Planning, "plan", String::new())
            .await;
        let plan = self.unpack_and_plan(&dir, archive).await?;
        let key = self.key(&plan);
        self.record.plan = Some(plan.clone());
        self.record.key = Some(key.clone());
        if let Some(other) = self.prepared.get(&key) {
            let app = dir.app();
            blocking(move || remove_tree(&app)).await?;
            return Ok(*other);
        }
        self.run_steps(&dir, &plan, deadline).await?;
        Ok(self.record.build)
    }

    async fn run_steps(
        &mut self,
        dir: &BuildDir,
        plan: &Plan,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let dependencies = self.dependencies(dir, plan).await;
        let restored = match &dependencies {
            Some(kept) => self.restore(kept, dir, plan).await,
            None => false,
        };
        // The last of them completes what can be kept.
        let last_install = plan
            .steps
            .iter()
            .rposition(|step| step.phase == Phase::Install);
        for (index, step) in plan.steps.iter().enumerate() {
            if restored && is_spared(&plan.steps, index) {
                continue;
            }
            let number = index + 1;
            let message = format!("step {number} of {}: {}", plan.steps.len(), step.name);
            self.advance(BuildPhase::Running, &step.name, message).await;
            let run = Run {
                context: &self.context,
                record: &self.record,
                plan,
                dir,
                tip: &self.tip,
                cancel: &self.cancel,
                deadline,
            };
            Box::pin(run.step(number as u64, step)).await?;
            if Some(index) == last_install
                && let Some(kept) = &dependencies
            {
                self.keep(kept, dir, plan).await;
            }
        }
        Ok(())
    }

    /// The kept dependencies and the key of those that this plan installs; `None` when a lockfile
    /// does not determine them.
    async fn dependencies(&self, dir: &BuildDir, plan: &Plan) -> Option<(Dependencies, String)> {
        let kept = Dependencies::new(self.context.layout.dependencies(self.record.tenant));
        let (app, plan, toolchain) = (dir.app(), plan.clone(), self.context.toolchain.clone());
        let key = blocking(move || {
            // What cannot be read here makes the steps fail with better words.
            let tree = SourceTree::open(&app).ok();
            let key = tree.map(|tree| prepare::cache_key(&plan, &toolchain, &tree));
            Ok(key.and_then(Result::ok).flatten())
        });
        // The host is shutting down: nothing will be built.
        Some((kept, key.await.ok()??))
    }

    /// Copies kept dependencies; without them they are installed.
    async fn restore(&self, kept: &(Dependencies, String), dir: &BuildDir, plan: &Plan) -> bool {
        let ((kept, key), app, plan) = (kept.clone(), dir.app(), plan.clone());
        let restored = blocking(move || kept.restore(&key, &plan, &app)).await;
        restored.unwrap_or_else(|error| {
            tracing::warn!(build = %self.record.build, error = chain(&error), "dependencies are installed anew");
            false
        })
    }

    async fn keep(&self, kept: &(Dependencies, String), dir: &BuildDir, plan: &Plan) {
        let ((kept, key), app, plan) = (kept.clone(), dir.app(), plan.clone());
        let build = self.record.build;
        if let Err(error) = blocking(move || kept.keep(&key, &plan, &app, build)).await {
            tracing::warn!(%build, error = chain(&error), "dependencies are not kept for the next build");
        }
    }

    /// Clears away what an interrupted attempt has left, and writes down what is to be done.
    async fn begin(&mut self, dir: &BuildDir) -> Result<(), Failure> {
        self.advance(BuildPhase::Fetching, "fetch source", String::new())
            .await;
        steps::clear(dir).await?;
        let (dir, cache) = (dir.clone(), self.context.layout.cache(self.record.tenant));
        blocking(move || {
            for stale in [dir.app(), dir.home(), dir.tmp()] {
                remove_tree(&stale)?;
            }
            for folder in [dir.path().to_path_buf(), dir.home(), dir.tmp(), cache] {
                make_private(&folder)?;
            }
            Ok(())
        })
        .await?;
        self.keep_record().await
    }

    async fn fetch(&mut self, deadline: Instant) -> Result<PathBuf, Failure> {
        let mut connections = self.context.connections.clone();
        let fetched = tokio::select! {
            fetched = fetch(&self.context.layout, &self.record, &mut connections) => fetched,
            () = self.cancel.cancelled() => return Err(Failure::cancelled()),
            () = tokio::time::sleep_until(deadline) => {
                let words = "the source did not arrive before the deadline of the build";
                return Err(Failure::new(Reason::BuildTimedOut, words.to_owned()));
            }
        };
        fetched.map_err(|error| match error {
            FetchError::Host(error) => error.into(),
            error => Failure::new(Reason::SourceUnavailable, chain(&error)),
        })
    }

    async fn unpack_and_plan(&self, dir: &BuildDir, archive: PathBuf) -> Result<Plan, Failure> {
        let (app, spec) = (dir.app(), self.record.spec.clone());
        let toolchain = self.context.toolchain.clone();
        let planned = blocking(move || {
            make_private(&app)?;
            let archive = File::open(&archive).map_err(HostError::io("open", &archive))?;
            Ok(unpack_and_plan(archive, &app, &spec, &toolchain))
        })
        .await?;
        if self.cancel.is_cancelled() {
            return Err(Failure::cancelled());
        }
        planned.map_err(|error| error.into_failure())
    }

    /// What makes the result of this build: what it is made of, how, and with which tools; and for
    /// whom, because tenants share nothing.
    fn key(&self, plan: &Plan) -> String {
        let mut hash = Sha256::new();
        let plan = serde_json::to_string(plan).expect("a plan has only string keys");
        let spec = serde_json::to_string(&self.record.spec).expect("a spec has only string keys");
        let tools: Vec<String> = self
            .context
            .toolchain
            .tools
            .iter()
            .map(|tool| format!("{} {}", tool.path.display(), tool.version))
            .collect();
        let tenant = self.record.tenant.to_string();
        for part in [
            tenant,
            self.record.source_digest.clone(),
            plan,
            spec,
            tools.join("\n"),
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hex(&hash.finalize())
    }

    /// Notes what the agent is started with, so that it can be missed.
    async fn note_program(&mut self) {
        let prepared = self.context.prepared(&self.record);
        let found = blocking(move || {
            let program = prepared.and_then(|prepared| prepared.own_program());
            Ok(program.filter(|program| program.exists()))
        });
        // The host is shutting down: it is missed by nobody.
        self.record.program = found.await.unwrap_or_default();
    }

    async fn advance(&mut self, phase: BuildPhase, step: &str, message: String) {
        self.record.advance(phase, step, message);
        self.report().await;
    }

    async fn report(&self) {
        let moved = BuildEvent::Moved(Box::new(self.record.clone()));
        // The hub is gone only when the host is.
        let _ = self.context.events.send(moved).await;
    }

    async fn keep_record(&self) -> Result<(), Failure> {
        let path = self.context.layout.build(self.record.build).record();
        let record = self.record.clone();
        Ok(blocking(move || Ok(durable::write_json(&path, &record)?)).await?)
    }

    /// Removes what a failed build made; its logs stay.
    async fn discard(&self) {
        let dir = self.context.layout.build(self.record.build);
        let removed = blocking(move || {
            for made in [dir.app(), dir.home(), dir.tmp()] {
                remove_tree(&made)?;
            }
            Ok(())
        });
        if let Err(error) = removed.await {
            tracing::warn!(
                build = %self.record.build,
                error = chain(&error),
                "a failed build's files could not be removed"
            );
        }
    }
}

fn unpack_and_plan(
    archive: File,
    app: &Path,
    spec: &BuildSpec,
    toolchain: &Toolchain,
) -> Result<Plan, PlanningError> {
    prepare::unpack(archive, app, &Limits::default())?;
    let tree = SourceTree::open(app).map_err(PlanError::from)?;
    Ok(parallax_builder::plan(&tree, spec, toolchain)?)
}

/// Whether a step is needless once the dependencies are there: it installs them, or makes tools
/// for no step after it.
fn is_spared(steps: &[Step], index: usize) -> bool {
    match steps[index].phase {
        Phase::Install => true,
        Phase::Tools => steps[index + 1..]
            .iter()
            .all(|later| matches!(later.phase, Phase::Install | Phase::Tools)),
        Phase::Build | Phase::Prune => false,
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
enum PlanningError {
    #[error("the source archive cannot be unpacked")]
    Unpack(#[from] UnpackError),
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl PlanningError {
    fn into_failure(self) -> Failure {
        let reason = match &self {
            Self::Unpack(UnpackError::Write { source, .. }) if is_full(source) => {
                Reason::StorageFull
            }
            Self::Plan(PlanError::StartCommandMissing { .. }) => Reason::StartCommandMissing,
            Self::Unpack(_) | Self::Plan(_) => Reason::PlanFailed,
        };
        Failure::new(reason, chain(&self))
    }
}
