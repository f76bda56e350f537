//! What a replica uses, for those that no cgroup accounts for: sums over its process tree.

use std::fs;

use parallax_shim::cgroup::Cgroup;
use parallax_shim::record::StateRecord;

/// One sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Processor time since the start of the incarnation, nanoseconds.
    pub(crate) cpu_ns: Option<u64>,
    pub(crate) memory_bytes: Option<u64>,
}

/// Samples a replica: by its cgroup, else by its process tree. Blocks for a few file reads.
pub(crate) fn sample(cgroup: Option<&Cgroup>, state: &StateRecord) -> Usage {
    // A counter that cannot be read is a counter that is missing, and is reported as that.
    let counted = cgroup
        .and_then(|cgroup| cgroup.usage().ok())
        .unwrap_or_default();
    if let (Some(cpu), Some(memory)) = (counted.cpu_ns, counted.memory_bytes) {
        return Usage {
            cpu_ns: Some(cpu),
            memory_bytes: Some(memory),
        };
    }
    let summed = tree(state.shim_pid);
    Usage {
        cpu_ns: counted.cpu_ns.or(summed.cpu_ns),
        memory_bytes: counted.memory_bytes.or(summed.memory_bytes),
    }
}

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    pid: u32,
    parent: u32,
    /// User and system time, of itself and of children that it has waited for, in ticks.
    ticks: u64,
    /// Resident pages.
    pages: u64,
}

/// Everything below the shim. Time of processes that have ended counts once their parent has
/// waited for them; the shim waits for every orphan.
fn tree(shim: u32) -> Usage {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Usage::default();
    };
    let all: Vec<Stat> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        // Processes end while the list is read.
        .filter_map(|pid| parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect();
    let mut members = vec![shim];
    let mut ticks = 0;
    let mut pages = 0;
    let mut next = 0;
    while let Some(parent) = members.get(next).copied() {
        next += 1;
        for stat in all.iter().filter(|stat| stat.parent == parent) {
            members.push(stat.pid);
            ticks += stat.ticks;
            pages += stat.pages;
        }
    }
    if members.len() == 1 {
        return Usage::default();
    }
    let hertz = rustix::param::clock_ticks_per_second().max(1);
    Usage {
        cpu_ns: Some(ticks.saturating_mul(1_000_000_000 / hertz)),
        memory_bytes: Some(pages.saturating_mul(rustix::param::page_size() as u64)),
    }
}

fn parse(text: &str) -> Option<Stat> {
    let (pid, rest) = text.split_once(' ')?;
    // The command name may hold anything: the last parenthesis ends it.
    let (_, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| -> Option<u64> { fields.get(index)?.parse().ok() };
    Some(Stat {
        pid: pid.parse().ok()?,
        parent: fields.get(1)?.parse().ok()?,
        ticks: number(11)? + number(12)? + number(13)? + number(14)?,
        pages: number(21)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_memory_are_read_behind_a_hostile_command_name() {
        let text = "42 (a) R 1 9) S 7 8 9 0 -1 0 0 0 0 0 1 2 3 4 20 0 1 0 1234 5 6 7\n";
        let expected = Stat {
            pid: 42,
            parent: 7,
            ticks: 10,
            pages: 6,
        };
        assert_eq!(parse(text), Some(expected));
    }

    #[test]
    fn a_shim_without_children_uses_nothing_that_is_known() {
        assert_eq!(tree(u32::MAX), Usage::default());
    }
}
