//! Stopping everything in a host's folder without a host, and leaving nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use parallax_shim::adopt::Adoption;
use parallax_shim::wire::Request;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::error::{HostError, blocking, chain};
use crate::host;
use crate::layout::{self, Layout};
use crate::limits::{self, Limiter};
use crate::link;

/// Between looks at something that should end.
const POLL: Duration = Duration::from_millis(20);
/// How long a killed tree may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// What runs in a host's folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Processes of replicas.
    pub replicas: usize,
    /// Steps of builds.
    pub builds: usize,
}

/// Counts what runs in `data_dir`, with a host or without.
///
/// # Errors
/// When the folder cannot be read.
pub async fn census(data_dir: &Path) -> Result<Census, HostError> {
    let mut census = Census::default();
    if !host::exists(data_dir) {
        return Ok(census);
    }
    let layout = Layout::of(data_dir);
    let (replicas, builds) = blocking(move || Ok((replicas(&layout)?, builds(&layout)?))).await?;
    for (found, count) in [
        (replicas, &mut census.replicas),
        (builds, &mut census.builds),
    ] {
        for dir in found.dirs {
            *count += usize::from(matches!(
                link::inspect(&dir).await?,
                Adoption::Running { .. }
            ));
        }
    }
    Ok(census)
}

/// Stops every replica and build step found in `data_dir`, each with at most `deadline` of grace,
/// kills what does not end, and removes their cgroups. Works without a server. The records and logs
/// stay; nothing is started again before a server asks for it.
///
/// # Errors
/// [`HostError::InUse`] when a host is still running there at the deadline; otherwise when
/// something survives.
pub async fn down(data_dir: &Path, deadline: Duration) -> Result<(), HostError> {
    if !host::exists(data_dir) {
        return Ok(());
    }
    let until = Instant::now() + deadline;
    let layout = Layout::of(data_dir);
    let _lock = loop {
        match host::lock(&layout) {
            Err(HostError::InUse { .. }) if Instant::now() < until => sleep(POLL).await,
            other => break other?,
        }
    };
    clear(data_dir, until.saturating_duration_since(Instant::now())).await
}

/// As [`down`], for a caller that holds the folder.
pub(crate) async fn clear(data_dir: &Path, grace: Duration) -> Result<(), HostError> {
    let layout = Layout::of(data_dir);
    let (replicas, builds) = blocking(move || Ok((replicas(&layout)?, builds(&layout)?))).await?;
    let mut stops = JoinSet::new();
    for dir in replicas.dirs.into_iter().chain(builds.dirs) {
        stops.spawn(async move { end(&dir, grace).await });
    }
    let mut first_error = None;
    while let Some(stopped) = stops.join_next().await {
        let result = stopped.unwrap_or(Err(HostError::ShuttingDown));
        if let Err(error) = result {
            tracing::warn!(error = chain(&error), "something is left");
            first_error.get_or_insert(error);
        }
    }
    blocking(move || {
        let limiter = Limiter::detect();
        let names = replicas.names.iter().chain(&builds.names);
        for cgroup in names.filter_map(|name| limiter.existing(name)) {
            limits::remove(&cgroup);
        }
        Ok(())
    })
    .await?;
    first_error.map_or(Ok(()), Err)
}

/// Replicas or builds: every shim's folder, and the names of the cgroups.
#[derive(Debug, Default)]
struct Found {
    dirs: Vec<PathBuf>,
    names: Vec<String>,
}

impl Found {
    fn add(&mut self, dir: &Path, name: String) -> Result<(), HostError> {
        let numbers = layout::numbered(dir).map_err(HostError::io("list", dir))?;
        let numbers = numbers.iter().map(|number| dir.join(number.to_string()));
        self.dirs.extend(numbers);
        self.names.push(name);
        Ok(())
    }
}

fn replicas(layout: &Layout) -> Result<Found, HostError> {
    let mut found = Found::default();
    let ids = layout
        .replica_ids()
        .map_err(HostError::io("list", &layout.replicas()))?;
    for id in ids {
        found.add(layout.replica(id).path(), id.to_string())?;
    }
    Ok(found)
}

fn builds(layout: &Layout) -> Result<Found, HostError> {
    let mut found = Found::default();
    let ids = layout
        .build_ids()
        .map_err(HostError::io("list", &layout.builds()))?;
    for id in ids {
        found.add(layout.build(id).path(), id.to_string())?;
    }
    Ok(found)
}

async fn end(dir: &Path, grace: Duration) -> Result<(), HostError> {
    if !runs(dir).await? {
        return Ok(());
    }
    let grace_ms = Some(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
    for (request, patience) in [
        (Request::Stop { grace_ms }, grace + KILL_PATIENCE),
        (Request::Kill, KILL_PATIENCE),
    ] {
        if let Err(error) = link::ask(dir, &request).await {
            tracing::debug!(dir = %dir.display(), error = chain(&error), "shim not reached");
            continue;
        }
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if !runs(dir).await? {
                return Ok(());
            }
            sleep(POLL).await;
        }
    }
    match link::conclude(dir).await? {
        Adoption::Running { state } => link::Tree::new(dir, state).kill().await,
        _ => runs(dir).await.map(drop),
    }
}

/// Whether something of an incarnation runs; what a lost shim left is killed on the way.
async fn runs(dir: &Path) -> Result<bool, HostError> {
    match link::conclude(dir).await? {
        Adoption::Running { .. } => Ok(true),
        Adoption::Lost { .. } => {
            link::kill_leftovers(dir).await?;
            Ok(false)
        }
        Adoption::NeverStarted | Adoption::Exited(_) => Ok(false),
    }
}
