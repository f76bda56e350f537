//! Running copies of a revision.

use std::fmt;

use crate::id::{AgentId, BuildId, HostId, ReplicaId, RevisionId, TenantId};
use crate::status::Reason;
use crate::time::Timestamp;
use crate::word::words;

/// One replica: what is wanted of it and what its host last observed.
#[derive(Debug, Clone, PartialEq)]
pub struct Replica {
    pub tenant: TenantId,
    pub id: ReplicaId,
    pub agent: AgentId,
    pub revision: RevisionId,
    pub revision_number: u64,
    pub host: HostId,
    pub build: BuildId,
    pub want: Want,
    pub observed: Observation,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

words! {
    /// What is wanted of a replica.
    pub enum Want("what can be wanted of a replica") {
        Run = "run",
        Stop = "stop",
    }
}

/// What a host reported of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    pub phase: ReplicaPhase,
    pub reason: Option<Reason>,
    pub message: String,
    /// Counts process starts of this replica; 0 before the first.
    pub incarnation: u64,
    pub restarts: u32,
    /// How its last process ended; of one that goes on, the process before.
    pub exit: Option<Exit>,
    /// `None` where no probe is configured.
    pub probe_ok: Option<bool>,
    /// Means in force, such as `landlock+cgroup1`.
    pub isolation: String,
    pub pid: Option<u32>,
    pub started_at: Option<Timestamp>,
}

impl Observation {
    /// Before any host has said anything.
    #[must_use]
    pub fn nothing_yet() -> Self {
        Self {
            phase: ReplicaPhase::Pending,
            reason: None,
            message: String::new(),
            incarnation: 0,
            restarts: 0,
            exit: None,
            probe_ok: None,
            isolation: String::new(),
            pid: None,
            started_at: None,
        }
    }
}

impl Observation {
    /// This report, with the end of the process before it: a host tells of that only until the
    /// next process runs, and it is what explains a restart.
    #[must_use]
    pub fn following(mut self, before: &Self) -> Self {
        // A later process after one that was not seen to end: nobody knows how it ended.
        let unseen = self.incarnation != before.incarnation && before.phase.goes_on();
        if self.exit.is_none() && self.phase.goes_on() && !unseen {
            self.exit.clone_from(&before.exit);
        }
        self
    }

    /// Whether this tells of an end that `before` did not.
    #[must_use]
    pub fn has_new_exit(&self, before: &Self) -> bool {
        self.exit.is_some() && self.exit != before.exit
    }
}

/// How a process ended, as its shim recorded it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Exit {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub out_of_memory: bool,
    pub ended_at: Timestamp,
    pub last_log_line: String,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.out_of_memory, self.code, self.signal) {
            (true, ..) => f.write_str("killed for exceeding its memory limit")?,
            (false, Some(code), _) => write!(f, "exit code {code}")?,
            (false, None, Some(signal)) => write!(f, "killed by signal {signal}")?,
            (false, None, None) => f.write_str("ended, nobody recorded how")?,
        }
        if self.last_log_line.is_empty() {
            return Ok(());
        }
        write!(f, "; last log line: {}", self.last_log_line)
    }
}

words! {
    /// Where a replica is, by its host's word.
    pub enum ReplicaPhase("a replica phase") {
        /// Assigned; the host has not reported it yet.
        Pending = "pending",
        /// The host prepares its folder.
        Preparing = "preparing",
        /// The process was started; it is not known to run yet.
        Starting = "starting",
        /// The process runs. Ready is more: registered, and the probe (if any) passes.
        Running = "running",
        /// The process ended; the host waits before it starts it again.
        Backoff = "backoff",
        Stopping = "stopping",
        /// Ended because it was told to.
        Stopped = "stopped",
        /// The host has given up on it.
        Failed = "failed",
        /// It is gone and nobody recorded how it ended.
        Lost = "lost",
    }
}

impl ReplicaPhase {
    /// Whether a process runs or is about to: an end that is reported was of an earlier one.
    #[must_use]
    pub const fn goes_on(self) -> bool {
        matches!(
            self,
            Self::Preparing | Self::Starting | Self::Running | Self::Stopping
        )
    }

    /// Whether nothing of the replica is left to run or to wait for.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed | Self::Lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(phase: ReplicaPhase, incarnation: u64, code: Option<i32>) -> Observation {
        let exit = |code| Exit {
            code: Some(code),
            signal: None,
            out_of_memory: false,
            ended_at: Timestamp::from_unix_millis(0),
            last_log_line: String::new(),
        };
        Observation {
            phase,
            incarnation,
            exit: code.map(exit),
            ..Observation::nothing_yet()
        }
    }

    fn check(before: Observation, report: Observation, expected: Option<i32>) {
        let exit = report.following(&before).exit;
        assert_eq!(exit.and_then(|exit| exit.code), expected);
    }

    #[test]
    fn the_end_of_one_process_is_kept_while_the_next_one_goes_on() {
        use ReplicaPhase::{Backoff, Lost, Running, Starting};
        check(seen(Running, 1, None), seen(Backoff, 1, Some(3)), Some(3));
        check(seen(Backoff, 1, Some(3)), seen(Starting, 2, None), Some(3));
        check(seen(Running, 2, Some(3)), seen(Running, 2, None), Some(3));
        check(seen(Running, 2, Some(3)), seen(Running, 3, None), None);
        check(seen(Running, 2, Some(3)), seen(Lost, 2, None), None);
    }
}
