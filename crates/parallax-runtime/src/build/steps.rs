//! Running the steps of a plan: each under a shim of its own, inside the build's walls.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parallax_builder::Plan;
use parallax_builder::plan::Step;
use parallax_core::replica::Exit;
use parallax_core::status::Reason;
use parallax_shim::adopt::Adoption;
use parallax_shim::cgroup::Cgroup;
use parallax_shim::log::{LogItem, LogReader, Stream};
use parallax_shim::record::{ExitCause, ExitRecord};
use parallax_shim::spec::{SPEC_VERSION, ShimSpec};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::job::{BuildContext, Failure};
use super::record::BuildRecord;
use crate::error::{HostError, blocking, chain};
use crate::layout::{self, BuildDir, make_private};
use crate::limits::{self, Limits};
use crate::link::{self, End, Launched, Link, LogTip, Tree};
use crate::prepared::{located, search_path};
use crate::replica::exit_of;

/// Between SIGTERM and SIGKILL for a step: it has nothing worth saving.
const STEP_GRACE: Duration = Duration::from_secs(2);
/// A step whose shim does not end it in time is given up after this.
const STEP_PATIENCE: Duration = Duration::from_secs(30);
/// Lines of output that a failure quotes.
const QUOTED_LINES: usize = 5;
/// Records that are searched for them.
const SEARCHED_RECORDS: u64 = 50;

/// What the steps of one build share.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) context: &'a BuildContext,
    pub(super) record: &'a BuildRecord,
    pub(super) plan: &'a Plan,
    pub(super) dir: &'a BuildDir,
    pub(super) tip: &'a watch::Sender<LogTip>,
    pub(super) cancel: &'a CancellationToken,
    /// When the whole build must have ended.
    pub(super) deadline: Instant,
}

impl Run<'_> {
    /// Runs one step; `number` counts from 1 and is the incarnation of its log.
    ///
    /// # Errors
    /// When the step fails, is cancelled or takes too long: then nothing of it is left.
    pub(super) async fn step(&self, number: u64, step: &Step) -> Result<(), Failure> {
        let dir = self.dir.step(number);
        let cgroup = self.prepare(&dir, step).await?;
        let ended = self.supervise(number, step, &dir).await;
        if let Some(cgroup) = cgroup {
            let removed = blocking(move || {
                limits::remove(&cgroup);
                Ok(())
            });
            removed.await?;
        }
        ended
    }

    async fn prepare(&self, dir: &Path, step: &Step) -> Result<Option<Cgroup>, HostError> {
        let name = self.record.build.to_string();
        let limits = Limits::build();
        let mut spec = self.spec(step);
        let (limiter, dir) = (self.context.limiter.clone(), dir.to_path_buf());
        blocking(move || {
            make_private(&dir)?;
            let cgroup = limiter.create(&name, &limits)?;
            spec.rlimits = limiter.rlimits(&limits);
            spec.cgroup_dirs = cgroup
                .as_ref()
                .map_or_else(Vec::new, |cgroup| cgroup.dirs().to_vec());
            spec.store(&dir)?;
            Ok(cgroup)
        })
        .await
    }

    fn spec(&self, step: &Step) -> ShimSpec {
        let cwd = self.dir.app().join(&step.cwd);
        let left = self.deadline.saturating_duration_since(Instant::now());
        let cache = self.context.layout.cache(self.record.tenant);
        let named = self.context.build_env.values().map(PathBuf::from);
        let read_only = self
            .context
            .toolchain
            .read_paths()
            .into_iter()
            .chain(named.filter(|path| path.is_absolute()));
        ShimSpec {
            version: SPEC_VERSION,
            argv: located(&step.argv, &cwd, self.plan, &self.context.toolchain),
            env: self.environment(step, &cache),
            cwd,
            stop_grace_ms: u64::try_from(STEP_GRACE.as_millis()).unwrap_or(u64::MAX),
            // At least a moment, so that the shim says what happened.
            deadline_ms: Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)),
            log: self.context.log_limits,
            cgroup_dirs: Vec::new(),
            rlimits: parallax_shim::spec::Rlimits::default(),
            isolation: self.context.sandbox.around(
                read_only,
                [self.dir.app(), self.dir.home(), self.dir.tmp(), cache],
            ),
        }
    }

    fn environment(&self, step: &Step, cache: &Path) -> BTreeMap<String, String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let root: PathBuf = self
            .dir
            .app()
            .join(&self.plan.root_dir)
            .components()
            .collect();
        let path = search_path(self.plan, &self.context.toolchain, &root);
        let mut env = BTreeMap::from([
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("CI".to_owned(), "1".to_owned()),
            ("PATH".to_owned(), path),
            ("npm_config_cache".to_owned(), text(&cache.join("npm"))),
            ("npm_config_update_notifier".to_owned(), "false".to_owned()),
            ("PIP_CACHE_DIR".to_owned(), text(&cache.join("pip"))),
            ("PIP_DISABLE_PIP_VERSION_CHECK".to_owned(), "1".to_owned()),
            ("UV_CACHE_DIR".to_owned(), text(&cache.join("uv"))),
            ("XDG_CACHE_HOME".to_owned(), text(&cache.join("xdg"))),
        ]);
        env.extend(self.context.build_env.clone());
        env.extend(self.record.spec.env.clone());
        env.extend(step.env.clone());
        env.insert("HOME".to_owned(), text(&self.dir.home()));
        env.insert("TMPDIR".to_owned(), text(&self.dir.tmp()));
        // Locks and sockets that would otherwise go to /tmp, which is closed: pnpm 12 has such.
        env.insert("XDG_RUNTIME_DIR".to_owned(), text(&self.dir.tmp()));
        env
    }

    async fn supervise(&self, number: u64, step: &Step, dir: &Path) -> Result<(), Failure> {
        let launched = link::launch(&self.context.shim_program, dir).await;
        let end = match launched {
            Ok(Launched::Running(state)) => self.follow(number, Tree::new(dir, state)).await?,
            Ok(Launched::Ended(record)) => {
                self.tip.send_modify(|tip| {
                    tip.incarnation = number;
                    tip.ended = true;
                });
                End::Recorded(record)
            }
            Err(error) => {
                let words = format!(
                    "step `{}` could not be started: {}",
                    step.name,
                    chain(&error)
                );
                return Err(Failure::new(Reason::BuildFailed, words));
            }
        };
        if self.cancel.is_cancelled() {
            return Err(Failure::cancelled());
        }
        self.judge(step, dir, &end).await
    }

    async fn follow(&self, number: u64, tree: Tree) -> Result<End, Failure> {
        let mut link = Link::follow(tree, number, self.tip.clone());
        let late = self.deadline + STEP_GRACE + STEP_PATIENCE;
        tokio::select! {
            end = link.ended() => return Ok(end),
            () = self.cancel.cancelled() => {}
            () = tokio::time::sleep_until(late) => {}
        }
        kill_step(&mut link).await?;
        if self.cancel.is_cancelled() {
            return Err(Failure::cancelled());
        }
        Err(Failure::new(
            Reason::BuildTimedOut,
            "the build outlived its deadline and was killed".to_owned(),
        ))
    }

    async fn judge(&self, step: &Step, dir: &Path, end: &End) -> Result<(), Failure> {
        let record = match end {
            End::Recorded(record) if succeeded(record) => return Ok(()),
            End::Recorded(record) => Some(record),
            End::Unrecorded => None,
        };
        let log_dir = dir.to_path_buf();
        let quoted = blocking(move || Ok(last_lines(&log_dir))).await?;
        let how = match record {
            None => "its shim was killed, so nobody recorded how it ended".to_owned(),
            Some(record) => words(record),
        };
        let mut message = format!("step `{}` ({}): {how}", step.name, step.argv.join(" "));
        if !quoted.is_empty() {
            message.push_str("; last lines:\n");
            message.push_str(&quoted.join("\n"));
        }
        let late = record.is_some_and(|record| record.cause == ExitCause::Deadline);
        let reason = match (late, is_disk_full(self.dir.path())) {
            (true, _) => Reason::BuildTimedOut,
            (false, true) => Reason::StorageFull,
            (false, false) => Reason::BuildFailed,
        };
        Err(Failure::new(reason, message))
    }
}

/// Ends what steps of an interrupted build are still running, and removes their folders.
///
/// # Errors
/// When something survives, or a folder cannot be removed.
pub(super) async fn clear(dir: &BuildDir) -> Result<(), HostError> {
    let numbers = layout::numbered(dir.path()).map_err(HostError::io("list", dir.path()))?;
    for number in numbers {
        let step = dir.step(number);
        if let Adoption::Running { state } = link::conclude(&step).await? {
            let (tip, _) = watch::channel(LogTip::default());
            let mut link = Link::follow(Tree::new(&step, state), number, tip);
            kill_step(&mut link).await?;
        }
        if let Adoption::Lost { .. } = link::inspect(&step).await? {
            link::kill_leftovers(&step).await?;
        }
        blocking(move || layout::remove_tree(&step)).await?;
    }
    Ok(())
}

/// SIGKILL to a step's tree; waits until it is gone.
async fn kill_step(link: &mut Link) -> Result<(), HostError> {
    // When the shim does not answer it has ended, or is stuck; the wait below tells.
    if let Err(error) = link.kill().await {
        tracing::debug!(shim = ?link.tree(), error = chain(&error), "step not asked to end");
    }
    if tokio::time::timeout(STEP_PATIENCE, link.ended())
        .await
        .is_err()
    {
        tracing::warn!(shim = ?link.tree(), "a build step does not end; killing its shim");
        link.tree().kill().await?;
    }
    Ok(())
}

fn succeeded(record: &ExitRecord) -> bool {
    record.cause == ExitCause::Exited && record.code == Some(0)
}

fn words(record: &ExitRecord) -> String {
    match record.cause {
        ExitCause::StartFailed => record
            .start_error
            .clone()
            .unwrap_or_else(|| "it could not be started".to_owned()),
        ExitCause::Deadline => "the deadline of the build has passed".to_owned(),
        // The lines that it wrote last are quoted beside this.
        _ => Exit {
            last_log_line: String::new(),
            ..exit_of(record)
        }
        .to_string(),
    }
}

/// The last lines that are not blank. A log that cannot be read quotes nothing.
fn last_lines(dir: &Path) -> Vec<String> {
    let Ok(reader) = LogReader::tail(dir, SEARCHED_RECORDS) else {
        return Vec::new();
    };
    let mut lines: Vec<String> = reader
        .filter_map(|item| match item {
            Ok(LogItem::Record(record)) if record.stream != Stream::System => {
                Some(String::from_utf8_lossy(&record.line).trim_end().to_owned())
            }
            _ => None,
        })
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines.split_off(lines.len().saturating_sub(QUOTED_LINES))
}

/// Less than this is full: package managers fail with many words, few of them "disk".
const FULL_BELOW_BYTES: u64 = 1 << 20;

fn is_disk_full(dir: &Path) -> bool {
    rustix::fs::statvfs(dir)
        .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < FULL_BELOW_BYTES)
}
