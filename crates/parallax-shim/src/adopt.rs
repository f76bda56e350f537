//! What became of an incarnation, for a host that was not there.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cgroup;
use crate::durable::FileError;
use crate::procfs::{self, Stat};
use crate::record::{ExitRecord, StateRecord};
use crate::spec::ShimSpec;
use crate::tree;

/// How long [`inspect`] waits for a shim that is just starting.
const START_PATIENCE: Duration = Duration::from_secs(2);
/// How long [`kill_leftovers`] tries.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
const ROUND: Duration = Duration::from_millis(5);

/// What became of an incarnation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// No shim has got as far as executing the command.
    NeverStarted,
    /// Its shim is alive.
    Running {
        /// Who runs it.
        state: StateRecord,
    },
    /// Its end is on record.
    Exited(ExitRecord),
    /// Its shim has gone without a record: nobody knows how it ended. Processes may be left; see
    /// [`kill_leftovers`].
    Lost {
        /// Who ran it.
        state: StateRecord,
    },
}

/// Why an incarnation cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// A record cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// `/proc` cannot be read.
    #[error("cannot look for the processes of {dir}")]
    Proc {
        /// The incarnation folder.
        dir: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Processes survived being killed for ten seconds.
    #[error("could not kill processes {pids:?} of {dir}")]
    Survivors {
        /// The incarnation folder.
        dir: PathBuf,
        /// The processes.
        pids: Vec<u32>,
    },
}

/// Judges an incarnation folder. Blocks for up to two seconds when its shim is just starting, else
/// for the time of a few file reads.
///
/// # Errors
/// When a record or `/proc` cannot be read: then nothing may be concluded.
pub fn inspect(dir: &Path) -> Result<Adoption, AdoptError> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        if let Some(exit) = ExitRecord::load(dir)? {
            return Ok(Adoption::Exited(exit));
        }
        let Some(state) = StateRecord::load(dir)? else {
            if is_locked(dir)? && Instant::now() < deadline {
                std::thread::sleep(ROUND);
                continue;
            }
            return never_started(dir);
        };
        if is_alive(&state).map_err(proc_error(dir))? {
            return Ok(Adoption::Running { state });
        }
        // It may have written its record between the two looks.
        return Ok(match ExitRecord::load(dir)? {
            Some(exit) => Adoption::Exited(exit),
            None => Adoption::Lost { state },
        });
    }
}

/// The lock may have been released because the start failed, which leaves a record.
fn never_started(dir: &Path) -> Result<Adoption, AdoptError> {
    Ok(match ExitRecord::load(dir)? {
        Some(exit) => Adoption::Exited(exit),
        None => Adoption::NeverStarted,
    })
}

/// Kills what a dead shim has left: everything in the spec's cgroups, the child's session and
/// process group, and processes that still hold its output. Returns how many were killed.
///
/// Call it only for [`Adoption::Lost`]. Without cgroups a process that has left its session and
/// closed its output cannot be found.
///
/// # Errors
/// When records or `/proc` cannot be read, or something survives for ten seconds.
pub fn kill_leftovers(dir: &Path) -> Result<usize, AdoptError> {
    let Some(state) = StateRecord::load(dir)? else {
        return Ok(0);
    };
    let cgroups = ShimSpec::load(dir)?.map_or_else(Vec::new, |spec| spec.cgroup_dirs);
    let same_boot = state.boot_id == procfs::boot_id().map_err(proc_error(dir))?;
    let deadline = Instant::now() + KILL_PATIENCE;
    let mut killed = BTreeSet::new();
    loop {
        let mut alive = cgroup::kill_all(&cgroups);
        if same_boot {
            let processes = procfs::processes().map_err(proc_error(dir))?;
            let left = leftovers(&state, &processes);
            alive.extend(tree::kill_each(&left).map_err(proc_error(dir))?);
        }
        if alive.is_empty() {
            return Ok(killed.len());
        }
        if Instant::now() >= deadline {
            return Err(AdoptError::Survivors {
                dir: dir.to_path_buf(),
                pids: alive.into_iter().collect(),
            });
        }
        killed.extend(alive);
        std::thread::sleep(ROUND);
    }
}

/// Whether the shim of `state` is the process that now has its id.
fn is_alive(state: &StateRecord) -> io::Result<bool> {
    if state.boot_id != procfs::boot_id()? {
        return Ok(false);
    }
    let shim = procfs::stat(state.shim_pid)?;
    Ok(shim.is_some_and(|shim| shim.start_time == state.shim_start_time && !shim.dead))
}

/// Whether a shim holds the folder.
fn is_locked(dir: &Path) -> Result<bool, AdoptError> {
    let path = dir.join(crate::SPEC_FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(FileError::io("open", &path)(source).into()),
    };
    // A shared lock, so that two inspections do not see each other.
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(FileError::io("lock", &path)(error.into()).into()),
    }
}

/// The processes of the tree, as far as anything but a cgroup can tell.
fn leftovers(state: &StateRecord, processes: &[Stat]) -> Vec<Stat> {
    // A session keeps its leader's id from being used again, but once it is empty a stranger may
    // have got the id and made a session of it.
    let reused = processes
        .iter()
        .any(|it| it.pid == state.child_pid && it.start_time != state.child_start_time);
    let own = std::process::id();
    processes
        .iter()
        .filter(|it| it.pid != own && it.start_time >= state.child_start_time)
        .filter(|it| {
            let in_session = it.session == state.child_pid || it.group == state.child_pid;
            (in_session && !reused) || holds_output(it.pid, &state.output_pipes)
        })
        .copied()
        .collect()
}

fn holds_output(pid: u32, pipes: &[u64]) -> bool {
    [1, 2]
        .into_iter()
        .filter_map(|fd| procfs::pipe_inode(pid, fd))
        .any(|inode| pipes.contains(&inode))
}

fn proc_error(dir: &Path) -> impl FnOnce(io::Error) -> AdoptError {
    let dir = dir.to_path_buf();
    move |source| AdoptError::Proc { dir, source }
}
