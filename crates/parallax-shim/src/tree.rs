//! Ending everything that a child has started, also what ran away from it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};

use crate::cgroup;
use crate::procfs::{self, Stat};

/// Between two rounds: a killed process needs a moment to end, and its children another parent.
const ROUND: Duration = Duration::from_millis(3);

/// Kills everything in the cgroups and every descendant of this process, and reaps what can be
/// reaped, until nothing is left or the deadline passes. `reaped` hears of each child.
///
/// Returns the processes that survived.
///
/// # Errors
/// When `/proc` cannot be read: then nothing is known about survivors.
pub(crate) fn kill_descendants(
    cgroup_dirs: &[PathBuf],
    deadline: Instant,
    mut reaped: impl FnMut(Pid, WaitStatus),
) -> io::Result<Vec<u32>> {
    let own = std::process::id();
    loop {
        let in_cgroups = cgroup::kill_all(cgroup_dirs);
        let mut left: BTreeSet<u32> = kill_each(&descendants(own, &procfs::processes()?))?;
        left.extend(in_cgroups);
        reap(&mut reaped)?;
        if left.is_empty() || Instant::now() >= deadline {
            return Ok(left.into_iter().collect());
        }
        std::thread::sleep(ROUND);
    }
}

/// Waits, without blocking, for every child that has ended.
pub(crate) fn reap(mut reaped: impl FnMut(Pid, WaitStatus)) -> io::Result<()> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => reaped(pid, status),
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Kills the processes that are still the ones that were seen. Returns those that were alive.
pub(crate) fn kill_each(processes: &[Stat]) -> io::Result<BTreeSet<u32>> {
    let mut alive = BTreeSet::new();
    for process in processes.iter().filter(|process| !process.dead) {
        if signal(process, Signal::KILL)? {
            alive.insert(process.pid);
        }
    }
    Ok(alive)
}

/// Sends a signal to a process unless its id has come to mean another one. False when it has ended.
pub(crate) fn signal(process: &Stat, signal: Signal) -> io::Result<bool> {
    let Some(pid) = Pid::from_raw(process.pid.cast_signed()) else {
        return Ok(false);
    };
    let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(rustix::io::Errno::SRCH) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    // With the descriptor open the id stays: what is seen now is what will get the signal.
    match procfs::stat(process.pid)? {
        Some(now) if now.start_time == process.start_time && !now.dead => {}
        _ => return Ok(false),
    }
    match rustix::process::pidfd_send_signal(&pidfd, signal) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The processes whose line of parents leads to `ancestor`.
pub(crate) fn descendants(ancestor: u32, processes: &[Stat]) -> Vec<Stat> {
    let mut children: BTreeMap<u32, Vec<Stat>> = BTreeMap::new();
    for process in processes {
        children.entry(process.parent).or_default().push(*process);
    }
    let mut found = Vec::new();
    let mut next = vec![ancestor];
    while let Some(parent) = next.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            next.push(child.pid);
            found.push(child);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32) -> Stat {
        Stat {
            pid,
            dead: false,
            parent,
            group: pid,
            session: pid,
            start_time: 1,
        }
    }

    #[test]
    fn descendants_are_found_at_any_depth_and_nobody_else() {
        let all = [
            process(2, 1),
            process(10, 2),
            process(11, 10),
            process(12, 11),
            process(20, 1),
            process(21, 20),
        ];
        let mut found: Vec<u32> = descendants(2, &all).iter().map(|it| it.pid).collect();
        found.sort_unstable();
        assert_eq!(found, [10, 11, 12]);
    }

    #[test]
    fn a_signal_is_not_sent_to_a_process_that_has_taken_over_an_id() {
        let own = procfs::stat(std::process::id())
            .expect("/proc is mounted")
            .expect("this process runs");
        let earlier = Stat {
            start_time: own.start_time - 1,
            ..own
        };
        assert!(!signal(&earlier, Signal::KILL).expect("/proc is readable"));
    }
}
