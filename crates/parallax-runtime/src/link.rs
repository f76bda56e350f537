//! The host's side of a shim: starting one, following it, stopping it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use parallax_shim::adopt::{self, Adoption};
use parallax_shim::client::{self, ClientError};
use parallax_shim::record::{ExitRecord, StateRecord};
use parallax_shim::spec::ShimSpec;
use parallax_shim::wire::{self, Event, Reply, Request};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::error::{HostError, blocking, chain};
use crate::task::Task;

/// How long a shim may take until its command runs or has failed to. It is milliseconds on an idle
/// machine; on a busy one the fork waits for memory and disk.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// Between looks at a starting shim.
const START_POLL: Duration = Duration::from_millis(4);
/// How long a shim may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// Between attempts to reach a shim whose process is there.
const REACH_AGAIN: Duration = Duration::from_millis(100);
/// Longest line of a shim: an exit record with its last log line, escaped.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// The newest record of a source's log. What waits for more output waits for this to change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogTip {
    pub(crate) incarnation: u64,
    pub(crate) seq: u64,
    /// Whether this incarnation has ended: no record will follow `seq`.
    pub(crate) ended: bool,
    /// Whether no further incarnation will follow.
    pub(crate) over: bool,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Recorded(Box<ExitRecord>),
    /// The shim is gone and left no record; what was left of the tree was killed.
    Unrecorded,
}

/// Why a shim could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("cannot start the shim {program}")]
    Spawn {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the shim ended without a word about its replica{words}")]
    Silent { words: String },
    #[error("the shim did not start its replica within {START_DEADLINE:?}")]
    Slow,
    #[error("cannot read the shim's records")]
    Records(#[source] HostError),
}

/// What a launch led to.
#[derive(Clone, Debug)]
pub(crate) enum Launched {
    Running(StateRecord),
    /// It has ended already, or could not be started; the record says which.
    Ended(Box<ExitRecord>),
}

/// Starts a shim for the incarnation folder `dir`, whose `spec.json` is written, and waits until
/// its command runs.
///
/// # Errors
/// When the shim itself fails. A command that cannot be started is no error: see [`Launched`].
pub(crate) async fn launch(program: &Path, dir: &Path) -> Result<Launched, LaunchError> {
    let spawn_error = |source| LaunchError::Spawn {
        program: program.to_path_buf(),
        source,
    };
    let words = dir.join(parallax_shim::STDERR_FILE);
    let stderr = std::fs::File::create(&words).map_err(spawn_error)?;
    let mut child = tokio::process::Command::new(program)
        .arg("shim")
        .arg(dir)
        // Nothing of the host's environment: it may hold secrets.
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::from(stderr))
        .spawn()
        .map_err(spawn_error)?;
    let deadline = Instant::now() + START_DEADLINE;
    loop {
        if let Some(launched) = look(dir).await? {
            return Ok(launched);
        }
        if child.try_wait().map_err(spawn_error)?.is_some() {
            // It may have written its record between the look and its end.
            return look(dir).await?.ok_or_else(|| LaunchError::Silent {
                words: last_words(&words),
            });
        }
        if Instant::now() >= deadline {
            child.start_kill().map_err(spawn_error)?;
            return Err(LaunchError::Slow);
        }
        sleep(START_POLL).await;
    }
}

async fn look(dir: &Path) -> Result<Option<Launched>, LaunchError> {
    // Nothing is concluded from what is not there yet, and nothing has to be asked of it.
    let records = [parallax_shim::STATE_FILE, parallax_shim::EXIT_FILE];
    if !records.iter().any(|file| dir.join(file).exists()) {
        return Ok(None);
    }
    match inspect(dir).await.map_err(LaunchError::Records)? {
        Adoption::NeverStarted => Ok(None),
        Adoption::Running { state } => Ok(Some(Launched::Running(state))),
        Adoption::Exited(record) => Ok(Some(Launched::Ended(Box::new(record)))),
        // It ran and its shim is gone: whoever follows it sees to the rest.
        Adoption::Lost { state } => Ok(Some(Launched::Running(state))),
    }
}

/// Judges an incarnation folder.
///
/// # Errors
/// When a record cannot be read: then nothing may be concluded.
pub(crate) async fn inspect(dir: &Path) -> Result<Adoption, HostError> {
    let dir = dir.to_path_buf();
    blocking(move || Ok(adopt::inspect(&dir)?)).await
}

/// Judges an incarnation folder for good: what has not started will not start any more.
///
/// # Errors
/// When a record cannot be read, or a shim is starting: then nothing may be concluded.
pub(crate) async fn conclude(dir: &Path) -> Result<Adoption, HostError> {
    let dir = dir.to_path_buf();
    blocking(move || Ok(adopt::conclude(&dir)?)).await
}

/// Kills what a lost shim has left behind.
///
/// # Errors
/// When something survives.
pub(crate) async fn kill_leftovers(dir: &Path) -> Result<usize, HostError> {
    let dir = dir.to_path_buf();
    blocking(move || Ok(adopt::kill_leftovers(&dir)?)).await
}

/// A shim and what it may leave, as they were when it was found running. Its folder may be moved
/// or removed since.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    dir: PathBuf,
    state: StateRecord,
    cgroups: Vec<PathBuf>,
}

impl Tree {
    /// The shim of `state`, whose incarnation folder is `dir`.
    pub(crate) fn new(dir: &Path, state: StateRecord) -> Self {
        // Without the spec, sessions and outputs still tell what belongs to it.
        let spec = ShimSpec::load(dir).ok().flatten();
        Self {
            dir: dir.to_path_buf(),
            state,
            cgroups: spec.map_or_else(Vec::new, |spec| spec.cgroup_dirs),
        }
    }

    /// Asks a shim that cannot be reached to stop its replica: SIGTERM, and SIGCONT so that a
    /// suspended one can obey. False when it has ended.
    ///
    /// # Errors
    /// When it cannot be told.
    pub(crate) fn terminate(&self) -> Result<bool, HostError> {
        let signal = |signal| adopt::signal_shim(&self.state, signal);
        let told = signal(Signal::TERM).and_then(|told| Ok(told && signal(Signal::CONT)?));
        told.map_err(HostError::io("signal the shim of", &self.dir))
    }

    /// Whether the replica's own process has ended.
    ///
    /// # Errors
    /// When that cannot be seen.
    pub(crate) fn has_ended(&self) -> Result<bool, HostError> {
        adopt::has_child_ended(&self.state).map_err(HostError::io("look at", &self.dir))
    }

    /// SIGKILL to the shim itself, and to what it leaves.
    ///
    /// # Errors
    /// When something survives.
    pub(crate) async fn kill(&self) -> Result<(), HostError> {
        let failed = || HostError::io("kill the shim of", &self.dir);
        // When it is gone already, that is as well.
        adopt::signal_shim(&self.state, Signal::KILL).map_err(failed())?;
        let deadline = Instant::now() + ANSWER_DEADLINE;
        while self.is_alive()? {
            if Instant::now() >= deadline {
                let words = format!("process {} is still there", self.state.shim_pid);
                return Err(failed()(io::Error::new(io::ErrorKind::TimedOut, words)));
            }
            sleep(START_POLL).await;
        }
        self.kill_leftovers().await
    }

    fn is_alive(&self) -> Result<bool, HostError> {
        adopt::is_alive(&self.state).map_err(HostError::io("look for the shim of", &self.dir))
    }

    async fn kill_leftovers(&self) -> Result<(), HostError> {
        let tree = self.clone();
        let killed =
            blocking(move || Ok(adopt::kill_tree_of(&tree.state, &tree.cgroups, &tree.dir)?));
        killed.await.map(drop)
    }
}

fn last_words(path: &Path) -> String {
    match std::fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => format!(": {}", text.trim()),
        _ => String::new(),
    }
}

/// A shim that is being followed.
#[derive(Debug)]
pub(crate) struct Link {
    tree: Tree,
    end: oneshot::Receiver<End>,
    _task: Task,
}

impl Link {
    /// Follows a shim until its replica has ended. Each new log record moves `tip`.
    pub(crate) fn follow(tree: Tree, incarnation: u64, tip: watch::Sender<LogTip>) -> Self {
        let (tell, end) = oneshot::channel();
        let task = Task::spawn(follow(tree.clone(), incarnation, tip, tell));
        Self {
            tree,
            end,
            _task: task,
        }
    }

    /// The shim itself, for when it does not answer.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Waits for the end. May be cancelled and called again.
    pub(crate) async fn ended(&mut self) -> End {
        match (&mut self.end).await {
            Ok(end) => end,
            // The follower only goes without a word when the runtime shuts down.
            Err(_) => std::future::pending().await,
        }
    }

    /// SIGTERM to the replica, SIGKILL to its tree after `grace`.
    ///
    /// # Errors
    /// When the shim does not answer; following it tells whether it is still there.
    pub(crate) async fn stop(&self, grace: Duration) -> Result<(), ClientError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        ask(
            &self.tree.dir,
            &Request::Stop {
                grace_ms: Some(grace_ms),
            },
        )
        .await
    }

    /// SIGKILL to the replica's tree.
    ///
    /// # Errors
    /// As [`Link::stop`].
    pub(crate) async fn kill(&self) -> Result<(), ClientError> {
        ask(&self.tree.dir, &Request::Kill).await
    }
}

/// Sends one request to the shim of `dir` and waits for its answer.
pub(crate) async fn ask(dir: &Path, request: &Request) -> Result<(), ClientError> {
    let work = async {
        let mut stream = BufReader::new(connect(dir)?);
        stream.get_mut().write_all(&wire::to_line(request)?).await?;
        let line = read_line(&mut stream).await?.ok_or(ClientError::Closed)?;
        match serde_json::from_slice::<Reply>(&line)? {
            Reply::Error(error) => Err(ClientError::Io(io::Error::other(error.message))),
            Reply::Ok { .. } | Reply::Status(_) => Ok(()),
        }
    };
    timeout(ANSWER_DEADLINE, work).await.unwrap_or_else(|late| {
        Err(ClientError::Io(io::Error::new(
            io::ErrorKind::TimedOut,
            late,
        )))
    })
}

fn connect(dir: &Path) -> Result<UnixStream, ClientError> {
    let stream = client::connect(dir)?;
    stream.set_nonblocking(true)?;
    Ok(UnixStream::from_std(stream)?)
}

async fn read_line(stream: &mut BufReader<UnixStream>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    stream
        .take(MAX_LINE_BYTES)
        .read_until(b'\n', &mut line)
        .await?;
    Ok(line.ends_with(b"\n").then_some(line))
}

async fn follow(
    tree: Tree,
    incarnation: u64,
    tip: watch::Sender<LogTip>,
    tell: oneshot::Sender<End>,
) {
    let dir = &tree.dir;
    let end = loop {
        let seen = match inspect(dir).await {
            // Its records are gone, and it may not be.
            Ok(Adoption::NeverStarted) => tree.is_alive().map(|alive| match alive {
                true => Adoption::Running {
                    state: tree.state.clone(),
                },
                false => Adoption::Lost {
                    state: tree.state.clone(),
                },
            }),
            seen => seen,
        };
        match seen {
            Ok(Adoption::Exited(record)) => break End::Recorded(Box::new(record)),
            Ok(Adoption::Lost { .. } | Adoption::NeverStarted) => match tree.kill_leftovers().await
            {
                Ok(()) => break End::Unrecorded,
                Err(error) => tracing::warn!(
                    dir = %dir.display(),
                    error = chain(&error),
                    "a replica's processes outlive their shim; trying to kill them again"
                ),
            },
            Ok(Adoption::Running { .. }) => {
                // When the connection breaks, the records tell why.
                if let Err(error) = watch_shim(dir, incarnation, &tip).await {
                    tracing::debug!(dir = %dir.display(), error = chain(&error), "shim not reached");
                }
            }
            Err(error) => tracing::warn!(
                dir = %dir.display(),
                error = chain(&error),
                "a replica's records cannot be read; trying again"
            ),
        }
        sleep(REACH_AGAIN).await;
    };
    tip.send_modify(|tip| {
        tip.incarnation = incarnation;
        tip.ended = true;
    });
    // Nobody listens when the replica's own task is gone, and then nobody needs to know.
    let _ = tell.send(end);
}

/// Passes events on until the connection ends.
async fn watch_shim(
    dir: &Path,
    incarnation: u64,
    tip: &watch::Sender<LogTip>,
) -> Result<(), ClientError> {
    let mut stream = BufReader::new(connect(dir)?);
    stream
        .get_mut()
        .write_all(&wire::to_line(&Request::Watch)?)
        .await?;
    while let Some(line) = read_line(&mut stream).await? {
        match serde_json::from_slice::<Event>(&line)? {
            Event::Log { seq } => {
                tip.send_modify(|tip| {
                    tip.incarnation = incarnation;
                    tip.seq = seq;
                    tip.ended = false;
                });
            }
            // The record is on disk; it is read from there.
            Event::Exit(_) => return Ok(()),
        }
    }
    Ok(())
}
