//! The life of a shim: prepare, start, wait and serve, clean up, record.

mod detach;
mod ending;
mod server;

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal, WaitStatus};

use crate::durable::{self, FileError, Reserved};
use crate::log::{LogWriter, Stream};
use crate::procfs;
use crate::record::{ExitRecord, RECORD_VERSION, StateRecord};
use crate::spawn::{self, SpawnError, Spawned};
use crate::spec::{Isolation, ShimSpec, SpecError};
use crate::sys::signals::SignalFd;
use crate::tree;
use crate::wire::Phase;
use detach::detach;
use ending::Ending;
use server::Server;

/// Bytes of one read from the child: the size of a pipe.
const READ_BYTES: usize = 64 << 10;
/// Reads of one stream before the other and the clients have their turn.
const READS_PER_TURN: usize = 4;
/// Between syncs while there is output, and between tries to write to a full disk.
const TICK: Duration = Duration::from_secs(1);
/// Space kept for the exit record: a last line of 1 KiB may grow sixfold by escapes, and a start
/// error names every folder of a `PATH`.
const EXIT_RECORD_BYTES: usize = 16 << 10;

/// Why a shim could not do its work. What went wrong with the command is not here but in the exit
/// record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShimError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error(
        "{0} holds no spec.json; the host writes it before it starts a shim, and takes it away when it gives the start up"
    )]
    NoSpec(PathBuf),
    #[error("{0} was started before; every start needs a folder of its own")]
    StartedBefore(PathBuf),
    #[error("another shim runs in {0}")]
    Locked(PathBuf),
    #[error("cannot {action}")]
    System {
        action: &'static str,
        #[source]
        source: io::Error,
    },
}

impl ShimError {
    fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System {
            action,
            source: source.into(),
        }
    }
}

/// Runs one replica to its end.
pub(crate) fn run(dir: &Path) -> Result<(), ShimError> {
    let _lock = detach(dir)?;
    // The working directory is the incarnation folder from here on: socket addresses are short.
    let exit = Reserved::new(Path::new(crate::EXIT_FILE), EXIT_RECORD_BYTES)?;
    let mut ready = match prepare() {
        Ok(ready) => ready,
        Err(error) => return ending::commit(&exit, &ExitRecord::start_failed(chain(&error))),
    };
    match start(&ready.spec) {
        Ok((spawned, state)) => {
            let mut supervisor = Supervisor::new(ready, spawned, state);
            supervisor.serve()?;
            supervisor.finish(&exit)
        }
        Err(error) => {
            let reason = chain(&error);
            ready.log.system(&reason);
            ready.log.flush();
            ready.log.sync();
            ending::commit(&exit, &ExitRecord::start_failed(reason))?;
            remove_socket();
            Ok(())
        }
    }
}

/// Everything that a shim needs before its child.
#[derive(Debug)]
struct Ready {
    spec: ShimSpec,
    log: LogWriter,
    server: Server,
    signals: SignalFd,
    /// Out-of-memory kills of the cgroup before this replica.
    oom_baseline: Option<u64>,
}

fn prepare() -> Result<Ready, ShimError> {
    let here = Path::new("");
    let spec = ShimSpec::load(here)?.ok_or_else(|| ShimError::NoSpec(PathBuf::from(".")))?;
    spec.check()?;
    Ok(Ready {
        signals: SignalFd::new(&[libc::SIGCHLD, libc::SIGTERM])
            .map_err(ShimError::system("block signals"))?,
        log: LogWriter::create(here, spec.log)?,
        server: Server::bind()?,
        oom_baseline: crate::cgroup::oom_kills(&spec.cgroup_dirs),
        spec,
    })
}

/// Executes the command and records who runs it; nothing runs when that fails.
fn start(spec: &ShimSpec) -> Result<(Spawned, StateRecord), ShimError> {
    let spawned = spawn::spawn(spec)?;
    let recorded = state_record(&spawned).and_then(|state| {
        durable::write_json(Path::new(crate::STATE_FILE), &state)?;
        Ok(state)
    });
    match recorded {
        Ok(state) => Ok((spawned, state)),
        Err(error) => {
            // A replica that no host could find again must not run.
            let deadline = Instant::now() + TICK;
            tree::kill_descendants(&spec.cgroup_dirs, deadline, |_, _| {}).map_err(
                ShimError::system("kill a replica that could not be recorded"),
            )?;
            Err(error)
        }
    }
}

/// An error and its sources in one line, for records and people.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A shim whose child runs.
#[derive(Debug)]
struct Supervisor {
    spec: ShimSpec,
    log: LogWriter,
    server: Server,
    signals: SignalFd,
    state: StateRecord,
    child: Pid,
    /// Standard output and error, until the tree has closed them.
    pipes: [Option<OwnedFd>; 2],
    buffer: Vec<u8>,
    ending: Ending,
    /// How the main process ended.
    ended: Option<(WaitStatus, u64)>,
    oom_baseline: Option<u64>,
    /// When output is synced, retried or split next; only while there is some.
    tick_at: Option<Instant>,
}

impl Supervisor {
    fn new(ready: Ready, spawned: Spawned, state: StateRecord) -> Self {
        let mut log = ready.log;
        for path in &spawned.skipped {
            log.system(&format!(
                "isolation: {} does not exist here and was left out",
                path.display()
            ));
        }
        log.system(&format!("started pid {}", state.child_pid));
        let deadline = ready.spec.deadline_ms.map(Duration::from_millis);
        Self {
            spec: ready.spec,
            log,
            server: ready.server,
            signals: ready.signals,
            state,
            child: spawned.pid,
            pipes: [Some(spawned.stdout), Some(spawned.stderr)],
            buffer: vec![0; READ_BYTES],
            ending: Ending::new(deadline),
            ended: None,
            oom_baseline: ready.oom_baseline,
            tick_at: None,
        }
    }

    /// Serves until the main process has ended.
    fn serve(&mut self) -> Result<(), ShimError> {
        self.log.flush();
        loop {
            self.wait()?;
            self.read_output();
            self.log.flush();
            self.take_signals()?;
            if self.ended.is_some() {
                return Ok(());
            }
            self.answer_clients();
            self.act_on_time();
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&mut self) -> Result<(), ShimError> {
        let wake_at = [self.tick_at, self.ending.next_deadline()]
            .into_iter()
            .flatten()
            .min();
        let timeout = wake_at.map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        let mut fds = vec![PollFd::from_borrowed_fd(
            self.signals.as_fd(),
            PollFlags::IN,
        )];
        for pipe in self.pipes.iter().flatten() {
            fds.push(PollFd::new(pipe, PollFlags::IN));
        }
        self.server.poll_on(&mut fds);
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(ShimError::system("wait for events")(error)),
        }
    }

    fn read_output(&mut self) {
        for (pipe, stream) in self.pipes.iter_mut().zip([Stream::Out, Stream::Err]) {
            for _ in 0..READS_PER_TURN {
                let Some(fd) = pipe else { break };
                match rustix::io::read(fd.as_fd(), &mut self.buffer[..]) {
                    Ok(0) => *pipe = None,
                    Ok(count) => self.log.output(stream, &self.buffer[..count]),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(error) => {
                        self.log.system(&format!("cannot read the output: {error}"));
                        *pipe = None;
                    }
                }
            }
        }
        self.arm_tick();
    }

    fn arm_tick(&mut self) {
        let due = self.log.is_unsynced() || self.log.is_blocked() || self.log.has_unfinished();
        if !due {
            self.tick_at = None;
        } else if self.tick_at.is_none() {
            self.tick_at = Some(Instant::now() + TICK);
        }
    }

    fn take_signals(&mut self) -> Result<(), ShimError> {
        let signals = self
            .signals
            .take()
            .map_err(ShimError::system("read signals"))?;
        if signals.contains(&libc::SIGTERM) {
            let grace = Duration::from_millis(self.spec.stop_grace_ms);
            self.log.system("the shim got SIGTERM: stopping");
            self.stop(grace);
        }
        if signals.contains(&libc::SIGCHLD) {
            self.reap()?;
        }
        Ok(())
    }

    fn reap(&mut self) -> Result<(), ShimError> {
        let (main, ended) = (self.child, &mut self.ended);
        tree::reap(|pid, status| {
            if pid == main {
                *ended = Some((status, crate::log::now_unix_us()));
            }
        })
        .map_err(ShimError::system("wait for the replica"))
    }

    fn answer_clients(&mut self) {
        let phase = if self.ending.has_begun() {
            Phase::Stopping
        } else {
            Phase::Running
        };
        for (client, request) in self.server.requests() {
            let reply = match request {
                Ok(request) => self.carry_out(&request, phase),
                Err(error) => Some(error),
            };
            self.server.reply(client, reply);
        }
        // After the replies, so that a new watcher hears at once where the log is.
        self.server.notify(self.log.last_seq());
        self.server.flush();
    }

    fn act_on_time(&mut self) {
        if self.ending.deadline_passed() {
            self.log.system("the deadline has passed: stopping");
            self.log.flush();
            let grace = Duration::from_millis(self.spec.stop_grace_ms);
            if self.ending.begin_deadline(grace) {
                self.terminate();
            }
        }
        if self.ending.grace_passed() {
            self.log.system("killed after grace");
            self.kill_main();
        }
        if self.tick_at.is_some_and(|at| at <= Instant::now()) {
            self.tick_at = None;
            self.log.split_unfinished();
            self.log.flush();
            self.log.sync();
            self.server.notify(self.log.last_seq());
            self.server.flush();
            self.arm_tick();
        }
    }

    /// The process that the agent's author wrote: with Bubblewrap, what runs inside.
    fn signal_child(&self, signal: Signal) -> rustix::io::Result<()> {
        if matches!(self.spec.isolation, Isolation::Bubblewrap { .. }) {
            // `bwrap` itself would end at once and take everything inside along.
            let processes = procfs::processes().map_err(|_| rustix::io::Errno::IO)?;
            for process in tree::descendants(self.state.child_pid, &processes) {
                tree::signal(&process, signal).map_err(|_| rustix::io::Errno::IO)?;
            }
            return Ok(());
        }
        match rustix::process::kill_process_group(self.child, signal) {
            // Ended already: the exit is on its way to this loop.
            Err(rustix::io::Errno::SRCH) => Ok(()),
            result => result,
        }
    }
}

fn state_record(spawned: &Spawned) -> Result<StateRecord, ShimError> {
    let started_unix_us = crate::log::now_unix_us();
    let shim = start_time(std::process::id())?;
    let child_pid = spawned.pid.as_raw_pid().cast_unsigned();
    Ok(StateRecord {
        version: RECORD_VERSION,
        shim_pid: std::process::id(),
        shim_start_time: shim,
        child_pid,
        child_start_time: start_time(child_pid)?,
        boot_id: procfs::boot_id().map_err(ShimError::system("read the boot id"))?,
        started_unix_us,
        output_pipes: [&spawned.stdout, &spawned.stderr]
            .into_iter()
            .map(|pipe| inode(pipe.as_fd()))
            .collect::<Result<_, _>>()?,
    })
}

/// The child is not reaped before this, so that its entry exists even when it has ended.
fn start_time(pid: u32) -> Result<u64, ShimError> {
    let stat = procfs::stat(pid).map_err(ShimError::system("read /proc"))?;
    stat.map(|stat| stat.start_time).ok_or_else(|| {
        ShimError::system("find the replica in /proc")(io::Error::from(io::ErrorKind::NotFound))
    })
}

fn inode(fd: BorrowedFd<'_>) -> Result<u64, ShimError> {
    rustix::fs::fstat(fd)
        .map(|stat| stat.st_ino)
        .map_err(ShimError::system("identify the output pipes"))
}

/// Removes what only a running shim needs. The token is worthless without the socket.
fn remove_socket() {
    for file in [crate::SOCKET_FILE, crate::TOKEN_FILE] {
        // Left-overs mislead nobody: a connection to a socket without listener is refused.
        let _ = fs::remove_file(file);
    }
}
