//! Getting an incarnation ready: its folder, its cgroup, and what its shim is told.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use parallax_shim::cgroup::Cgroup;
use parallax_shim::spec::{LogLimits, SPEC_VERSION, ShimSpec};

use super::env::{Surroundings, environment};
use super::record::Assignment;
use super::{actor::Context, files};
use crate::error::HostError;
use crate::layout::{self, ReplicaDir, make_private, remove_tree};
use crate::limits::Limits;
use crate::prepared::Prepared;

/// Incarnations whose logs are kept, the newest included: enough to see how a crash loop began.
const KEEP_INCARNATIONS: usize = 5;

/// An incarnation that is ready to be started.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) dir: PathBuf,
    pub(super) cgroup: Option<Cgroup>,
}

/// Writes everything that the shim of `incarnation` needs. Blocks.
///
/// # Errors
/// When the folder or the cgroup cannot be made.
pub(super) fn prepare(
    context: &Context,
    assignment: &Assignment,
    prepared: &Prepared,
    incarnation: u64,
) -> Result<Ready, HostError> {
    let dir = context.layout.replica(assignment.replica);
    // What the last process left there is of no use to the next one.
    remove_tree(&dir.tmp())?;
    files::make_folders(&dir)?;
    forget_old_incarnations(&dir)?;
    let incarnation_dir = dir.incarnation(incarnation);
    make_private(&incarnation_dir)?;
    let limits = Limits::of(&assignment.spec.resources);
    let cgroup = context
        .limiter
        .create(&assignment.replica.to_string(), &limits)?;
    let port = probe_port(assignment);
    let (argv, cwd) = prepared.command(assignment.spec.start.as_deref());
    let surroundings = Surroundings {
        path: &prepared.search_path(),
        time_zone: context.time_zone.as_deref(),
        has_ca: dir.ca().exists(),
        port,
        plan: &prepared.plan.start.env,
    };
    let spec = ShimSpec {
        version: SPEC_VERSION,
        argv,
        env: environment(assignment, &dir, &surroundings),
        cwd,
        stop_grace_ms: assignment.stop_grace_ms,
        deadline_ms: None,
        log: context.log_limits,
        cgroup_dirs: cgroup
            .as_ref()
            .map_or_else(Vec::new, |cgroup| cgroup.dirs().to_vec()),
        rlimits: context.limiter.rlimits(&limits),
        isolation: context.sandbox.around(
            prepared.read_paths().into_iter().chain([dir.run()]),
            [dir.home(), dir.tmp()],
        ),
    };
    spec.store(&incarnation_dir)?;
    Ok(Ready {
        dir: incarnation_dir,
        cgroup,
    })
}

/// The bounds of a log that a host was told, kept within what a shim accepts.
pub(crate) fn sane(limits: LogLimits) -> LogLimits {
    LogLimits {
        segment_bytes: limits.segment_bytes.max(4096),
        keep_segments: limits.keep_segments.max(1),
        max_line_bytes: limits.max_line_bytes.clamp(256, 16 << 20),
    }
}

fn forget_old_incarnations(dir: &ReplicaDir) -> Result<(), HostError> {
    let numbers = layout::numbered(dir.path()).map_err(HostError::io("list", dir.path()))?;
    // One fewer than are kept: the next one is about to be made.
    let surplus = numbers.len().saturating_sub(KEEP_INCARNATIONS - 1);
    for number in &numbers[..surplus] {
        remove_tree(&dir.incarnation(*number))?;
    }
    Ok(())
}

/// The port of the spec, or a free one when it says 0.
fn probe_port(assignment: &Assignment) -> Option<u16> {
    match assignment.spec.probe.as_ref()?.port {
        0 => {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            // Without a free port the agent picks one itself, and the probe says what is wrong.
            let listener = TcpListener::bind(any).ok()?;
            listener.local_addr().ok().map(|address| address.port())
        }
        port => Some(port),
    }
}
