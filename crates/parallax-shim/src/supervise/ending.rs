//! How a replica comes to its end, and what is left of it.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Signal, WaitStatus};

use super::{ShimError, Supervisor, remove_socket};
use crate::durable::Reserved;
use crate::record::{ExitCause, ExitRecord, RECORD_VERSION};
use crate::sys::signals::MAX_SIGNAL;
use crate::tree;
use crate::wire::{ErrorCode, Event, Phase, Reply, Request, Status, WIRE_VERSION, WireError};

/// How long the rest of a tree may take to die. Only a process that is stuck in the kernel needs
/// more than milliseconds.
const TREE_PATIENCE: Duration = Duration::from_secs(10);
/// How long the exit record is tried for. Its space is reserved; what is left are passing faults.
const RECORD_PATIENCE: Duration = Duration::from_secs(10);
/// How long watching clients have to take the last event.
const FAREWELL: Duration = Duration::from_millis(500);
/// The longest grace; more would overflow no clock, but is surely a mistake.
const MAX_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether and why a replica is being ended.
#[derive(Debug)]
pub(super) struct Ending {
    /// When the whole process has had its time.
    deadline: Option<Instant>,
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    cause: ExitCause,
    /// When SIGKILL follows; `None` once it was sent.
    kill_at: Option<Instant>,
}

impl Ending {
    pub(super) fn new(deadline: Option<Duration>) -> Self {
        Self {
            // A deadline beyond the clock is none.
            deadline: deadline.and_then(|after| Instant::now().checked_add(after)),
            begun: None,
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match &self.begun {
            None => self.deadline,
            Some(begun) => begun.kill_at,
        }
    }

    pub(super) fn deadline_passed(&self) -> bool {
        self.begun.is_none() && self.deadline.is_some_and(|at| at <= Instant::now())
    }

    /// True once, when the grace is over.
    pub(super) fn grace_passed(&mut self) -> bool {
        let Some(begun) = &mut self.begun else {
            return false;
        };
        if begun.kill_at.is_none_or(|at| at > Instant::now()) {
            return false;
        }
        begun.kill_at = None;
        if begun.cause == ExitCause::Stopped {
            begun.cause = ExitCause::KilledAfterGrace;
        }
        true
    }

    /// True when the replica must be told; a later call can only shorten the grace.
    pub(super) fn begin_stop(&mut self, grace: Duration) -> bool {
        self.begin(ExitCause::Stopped, grace)
    }

    pub(super) fn begin_deadline(&mut self, grace: Duration) -> bool {
        self.begin(ExitCause::Deadline, grace)
    }

    fn begin(&mut self, cause: ExitCause, grace: Duration) -> bool {
        let kill_at = Instant::now() + grace.min(MAX_GRACE);
        match &mut self.begun {
            None => {
                self.begun = Some(Begun {
                    cause,
                    kill_at: Some(kill_at),
                });
                true
            }
            Some(begun) => {
                begun.kill_at = begun.kill_at.map(|at| at.min(kill_at));
                false
            }
        }
    }

    /// It is being killed because somebody asked for it.
    fn begin_kill(&mut self) {
        let begun = self.begun.get_or_insert(Begun {
            cause: ExitCause::Stopped,
            kill_at: None,
        });
        begun.kill_at = None;
    }

    fn cause(&self) -> ExitCause {
        self.begun
            .as_ref()
            .map_or(ExitCause::Exited, |begun| begun.cause)
    }
}

impl Supervisor {
    /// Carries out a request; `None` when the client becomes a watcher and gets no reply.
    pub(super) fn carry_out(&mut self, request: &Request, phase: Phase) -> Option<Reply> {
        match request {
            Request::Status => Some(self.status(phase, None)),
            Request::Watch => None,
            Request::Stop { grace_ms } => {
                let grace = Duration::from_millis(grace_ms.unwrap_or(self.spec.stop_grace_ms));
                self.log.system("asked to stop");
                self.stop(grace);
                Some(ok())
            }
            Request::Kill => {
                self.log.system("asked to kill");
                self.ending.begin_kill();
                self.kill_main();
                Some(ok())
            }
            Request::Signal { signal } => Some(self.send(*signal)),
        }
    }

    pub(super) fn stop(&mut self, grace: Duration) {
        self.log.flush();
        if self.ending.begin_stop(grace) {
            self.terminate();
        }
    }

    /// SIGTERM, and SIGCONT so that a suspended replica can obey.
    pub(super) fn terminate(&mut self) {
        for signal in [Signal::TERM, Signal::CONT] {
            if let Err(error) = self.signal_child(signal) {
                self.log
                    .system(&format!("cannot signal the replica: {error}"));
            }
        }
    }

    /// Ends the main process now; the rest of its tree follows when it has ended.
    pub(super) fn kill_main(&mut self) {
        match rustix::process::kill_process_group(self.child, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => self
                .log
                .system(&format!("cannot kill the replica: {error}")),
        }
        self.log.flush();
    }

    fn send(&mut self, number: i32) -> Reply {
        let invalid = |message: String| {
            Reply::Error(WireError {
                code: ErrorCode::InvalidRequest,
                message,
            })
        };
        let signal = match Signal::from_named_raw(number) {
            Some(signal) => signal,
            None => {
                return invalid(format!(
                    "{number} is not a signal that can be sent; use a standard one below {MAX_SIGNAL}"
                ));
            }
        };
        match self.signal_child(signal) {
            Ok(()) => ok(),
            Err(error) => Reply::Error(WireError {
                code: ErrorCode::Failed,
                message: format!("cannot signal the replica: {error}"),
            }),
        }
    }

    fn status(&self, phase: Phase, exit: Option<ExitRecord>) -> Reply {
        Reply::Status(Box::new(Status {
            version: WIRE_VERSION,
            phase,
            last_seq: self.log.last_seq(),
            state: Some(self.state.clone()),
            exit,
        }))
    }

    /// Cleans up after the main process, writes the record, and tells who asks.
    pub(super) fn finish(mut self, exit: &Reserved) -> Result<(), ShimError> {
        self.kill_rest()?;
        // Everything that could still write is dead; what it wrote is in the pipes.
        let drained_by = Instant::now() + TREE_PATIENCE;
        while self.output_waits() && Instant::now() < drained_by {
            self.read_output();
            self.log.flush();
        }
        self.log.finish_lines();
        let record = self.record();
        self.log.system(&describe(&record));
        self.log.flush();
        self.log.sync();
        commit(exit, &record)?;
        self.farewell(&record);
        remove_socket();
        Ok(())
    }

    fn kill_rest(&mut self) -> Result<(), ShimError> {
        let deadline = Instant::now() + TREE_PATIENCE;
        let left = tree::kill_descendants(&self.spec.cgroup_dirs, deadline, |_, _| {})
            .map_err(ShimError::system("look for the rest of the replica's tree"))?;
        if !left.is_empty() {
            let left: Vec<String> = left.iter().map(u32::to_string).collect();
            self.log.system(&format!(
                "could not kill {} within {} s",
                left.join(", "),
                TREE_PATIENCE.as_secs()
            ));
        }
        Ok(())
    }

    /// Whether a pipe has something to read. A survivor that holds it open does not count.
    fn output_waits(&self) -> bool {
        self.pipes
            .iter()
            .flatten()
            .any(|pipe| rustix::io::ioctl_fionread(pipe).is_ok_and(|bytes| bytes > 0))
    }

    fn record(&self) -> ExitRecord {
        let (status, ended_unix_us) = match self.ended {
            Some((status, at)) => (Some(status), at),
            None => (None, crate::log::now_unix_us()),
        };
        let oom_kills = crate::cgroup::oom_kills(&self.spec.cgroup_dirs);
        // A failed getrusage is an unknown usage, and the record can say so.
        let usage = crate::sys::process::children_usage().ok();
        ExitRecord {
            version: RECORD_VERSION,
            code: status.and_then(WaitStatus::exit_status),
            signal: status.and_then(WaitStatus::terminating_signal),
            out_of_memory: oom_kills > self.oom_baseline.or(Some(0)),
            ended_unix_us,
            last_log_line: self.log.last_line(),
            cause: self.ending.cause(),
            start_error: None,
            cpu_ns: usage.map(|usage| usage.cpu_ns),
            max_rss_bytes: usage.map(|usage| usage.max_rss_bytes),
        }
    }

    /// Answers those who are connected, now that the record is on disk.
    fn farewell(&mut self, record: &ExitRecord) {
        let requests = self.server.requests();
        for (client, request) in requests {
            let reply = match request {
                Ok(Request::Status) => Some(self.status(Phase::Exited, Some(record.clone()))),
                // It has ended: there is nothing left to stop.
                Ok(Request::Stop { .. } | Request::Kill) => Some(ok()),
                Ok(Request::Watch) => None,
                Ok(Request::Signal { .. }) => Some(Reply::Error(WireError {
                    code: ErrorCode::Failed,
                    message: "the replica has ended".to_owned(),
                })),
                Err(error) => Some(error),
            };
            self.server.reply(client, reply);
        }
        self.server.notify(self.log.last_seq());
        self.server
            .farewell(&Event::Exit(Box::new(record.clone())), FAREWELL);
    }
}

impl ExitRecord {
    /// The record of a command that never ran.
    pub(super) fn start_failed(reason: String) -> Self {
        Self {
            version: RECORD_VERSION,
            code: None,
            signal: None,
            out_of_memory: false,
            ended_unix_us: crate::log::now_unix_us(),
            last_log_line: String::new(),
            cause: ExitCause::StartFailed,
            start_error: Some(reason),
            cpu_ns: None,
            max_rss_bytes: None,
        }
    }
}

/// Writes the exit record, trying again for a while: without it the end counts as lost.
pub(super) fn commit(exit: &Reserved, record: &ExitRecord) -> Result<(), ShimError> {
    let deadline = Instant::now() + RECORD_PATIENCE;
    loop {
        match exit.commit(record) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= deadline || !Path::new(".").exists() => {
                return Err(error.into());
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn ok() -> Reply {
    Reply::Ok {
        version: WIRE_VERSION,
    }
}

fn describe(record: &ExitRecord) -> String {
    let how = match (record.code, record.signal) {
        (Some(code), _) => format!("exited with code {code}"),
        (_, Some(signal)) => format!("ended by signal {signal}"),
        _ => "ended in an unknown way".to_owned(),
    };
    if record.out_of_memory {
        format!("{how}; the kernel killed for lack of memory")
    } else {
        how
    }
}
