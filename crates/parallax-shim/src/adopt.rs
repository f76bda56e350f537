//! What became of an incarnation, for a host that was not there.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::process::Signal;

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
    /// A shim holds the folder and its command does not run yet.
    #[error("a shim is still starting in {dir}")]
    Starting {
        /// The incarnation folder.
        dir: PathBuf,
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
/// [`Adoption::NeverStarted`] may be true only now: a shim that was launched a moment ago may not
/// have got to the folder. Who goes on from there calls [`conclude`].
///
/// # Errors
/// When a record or `/proc` cannot be read, or a shim is starting for longer than two seconds: then
/// nothing may be concluded.
pub fn inspect(dir: &Path) -> Result<Adoption, AdoptError> {
    judge(dir, is_locked)
}

/// Judges an incarnation folder for good: where this says [`Adoption::NeverStarted`], no shim will
/// start there any more, also none that was launched before and comes late. Blocks as [`inspect`].
///
/// # Errors
/// As [`inspect`], and when the folder cannot be changed.
pub fn conclude(dir: &Path) -> Result<Adoption, AdoptError> {
    judge(dir, close)
}

/// `busy` says, of a folder without records, whether a shim holds it.
fn judge(
    dir: &Path,
    busy: impl Fn(&Path) -> Result<bool, AdoptError>,
) -> Result<Adoption, AdoptError> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        if let Some(adoption) = recorded(dir)? {
            return Ok(adoption);
        }
        if !busy(dir)? {
            // It may have recorded something, and let go, between the two looks.
            return Ok(recorded(dir)?.unwrap_or(Adoption::NeverStarted));
        }
        if Instant::now() >= deadline {
            return Err(AdoptError::Starting {
                dir: dir.to_path_buf(),
            });
        }
        std::thread::sleep(ROUND);
    }
}

/// What the records say; `None` when there are none.
fn recorded(dir: &Path) -> Result<Option<Adoption>, AdoptError> {
    if let Some(exit) = ExitRecord::load(dir)? {
        return Ok(Some(Adoption::Exited(exit)));
    }
    let Some(state) = StateRecord::load(dir)? else {
        return Ok(None);
    };
    if is_alive(&state).map_err(proc_error(dir))? {
        return Ok(Some(Adoption::Running { state }));
    }
    // It may have written its record between the two looks.
    Ok(Some(match ExitRecord::load(dir)? {
        Some(exit) => Adoption::Exited(exit),
        None => Adoption::Lost { state },
    }))
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
    kill_tree_of(&state, &cgroups, dir)
}

/// As [`kill_leftovers`], of a shim that is known although its records in `dir` may be gone.
///
/// # Errors
/// As [`kill_leftovers`].
pub fn kill_tree_of(
    state: &StateRecord,
    cgroups: &[PathBuf],
    dir: &Path,
) -> Result<usize, AdoptError> {
    let same_boot = state.boot_id == procfs::boot_id().map_err(proc_error(dir))?;
    let deadline = Instant::now() + KILL_PATIENCE;
    let mut killed = BTreeSet::new();
    loop {
        let mut alive = cgroup::kill_all(cgroups);
        if same_boot {
            let processes = procfs::processes().map_err(proc_error(dir))?;
            let left = leftovers(state, &processes);
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

/// Sends a signal to the shim of `state`, and to no other process that has its id by now. False
/// when it has ended.
///
/// # Errors
/// When `/proc` cannot be read, or the signal is not allowed.
pub fn signal_shim(state: &StateRecord, signal: Signal) -> io::Result<bool> {
    if state.boot_id != procfs::boot_id()? {
        return Ok(false);
    }
    let shim = procfs::stat(state.shim_pid)?;
    match shim.filter(|shim| shim.start_time == state.shim_start_time) {
        Some(shim) => tree::signal(&shim, signal),
        None => Ok(false),
    }
}

/// Whether the replica's own process has ended, also when its shim has not waited for it yet.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn has_child_ended(state: &StateRecord) -> io::Result<bool> {
    let child = procfs::stat(state.child_pid)?;
    let same = child.filter(|child| child.start_time == state.child_start_time);
    Ok(same.is_none_or(|child| child.dead))
}

/// Whether the shim of `state` is the process that now has its id, and has not ended.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn is_alive(state: &StateRecord) -> io::Result<bool> {
    if state.boot_id != procfs::boot_id()? {
        return Ok(false);
    }
    let shim = procfs::stat(state.shim_pid)?;
    Ok(shim.is_some_and(|shim| shim.start_time == state.shim_start_time && !shim.dead))
}

/// Whether a shim holds the folder.
fn is_locked(dir: &Path) -> Result<bool, AdoptError> {
    // A shared lock, so that two inspections do not see each other. A shim that comes just now
    // tries again.
    let lock = FlockOperation::NonBlockingLockShared;
    Ok(matches!(lock_spec(dir, lock)?, Spec::Held))
}

/// Takes the spec away from a shim that comes late, unless one holds the folder.
fn close(dir: &Path) -> Result<bool, AdoptError> {
    match lock_spec(dir, FlockOperation::NonBlockingLockExclusive)? {
        Spec::Absent => Ok(false),
        Spec::Held => Ok(true),
        Spec::Locked(lock) => {
            let path = dir.join(crate::SPEC_FILE);
            if recorded(dir)?.is_none()
                && let Err(error) = fs::rename(&path, dir.join(crate::VOID_SPEC_FILE))
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(FileError::io("rename", &path)(error).into());
            }
            drop(lock);
            Ok(false)
        }
    }
}

enum Spec {
    /// There is none: nothing can be started.
    Absent,
    /// Somebody else has it.
    Held,
    Locked(File),
}

fn lock_spec(dir: &Path, operation: FlockOperation) -> Result<Spec, AdoptError> {
    let path = dir.join(crate::SPEC_FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Spec::Absent),
        Err(source) => return Err(FileError::io("open", &path)(source).into()),
    };
    match rustix::fs::flock(&file, operation) {
        Ok(()) => Ok(Spec::Locked(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(Spec::Held),
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
