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
    let (dirs, names) = blocking(move || everything(&layout)).await?;
    let mut stops = JoinSet::new();
    for dir in dirs {
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
        for cgroup in names.iter().filter_map(|name| limiter.existing(name)) {
            limits::remove(&cgroup);
        }
        Ok(())
    })
    .await?;
    first_error.map_or(Ok(()), Err)
}

/// Every shim's folder, and the names of the cgroups.
fn everything(layout: &Layout) -> Result<(Vec<PathBuf>, Vec<String>), HostError> {
    let mut dirs = Vec::new();
    let mut names = Vec::new();
    let replicas = layout
        .replica_ids()
        .map_err(HostError::io("list", &layout.replicas()))?;
    for id in replicas {
        shims_of(layout.replica(id).path(), &mut dirs)?;
        names.push(id.to_string());
    }
    let builds = layout
        .build_ids()
        .map_err(HostError::io("list", &layout.builds()))?;
    for id in builds {
        shims_of(layout.build(id).path(), &mut dirs)?;
        names.push(id.to_string());
    }
    Ok((dirs, names))
}

fn shims_of(dir: &Path, dirs: &mut Vec<PathBuf>) -> Result<(), HostError> {
    let numbers = layout::numbered(dir).map_err(HostError::io("list", dir))?;
    dirs.extend(numbers.iter().map(|number| dir.join(number.to_string())));
    Ok(())
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
    link::kill_shim(dir).await
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
