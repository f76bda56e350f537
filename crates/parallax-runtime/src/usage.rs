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
    let (summed, _) = tree(state.shim_pid);
    Usage {
        cpu_ns: counted.cpu_ns.or(summed.cpu_ns),
        memory_bytes: counted.memory_bytes.or(summed.memory_bytes),
    }
}

/// What the replica uses, if that is more than `limit`. Blocks for some file reads.
///
/// Pages that processes share count for each of them in the sum of a sample; before that is held
/// against a replica, they are counted once.
pub(crate) fn excess(sampled: &Usage, limit: u64, state: &StateRecord) -> Option<u64> {
    let sum = sampled.memory_bytes.filter(|sum| *sum > limit)?;
    let exact = proportional(state.shim_pid).unwrap_or(sum);
    (exact > limit).then_some(exact)
}

/// Memory of everything below the shim, shared pages by their share; `None` when the kernel does
/// not say.
fn proportional(shim: u32) -> Option<u64> {
    let (_, members) = tree(shim);
    let mut bytes: u64 = 0;
    for pid in members {
        match fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
            Ok(text) => bytes = bytes.saturating_add(parse_pss(&text)?),
            // It has ended meanwhile: then it uses nothing any more.
            Err(_) if fs::metadata(format!("/proc/{pid}")).is_err() => {}
            Err(_) => return None,
        }
    }
    Some(bytes)
}

fn parse_pss(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
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

/// The sum of everything below the shim, and what that is. Time of processes that have ended counts once their parent has
/// waited for them; the shim waits for every orphan.
fn tree(shim: u32) -> (Usage, Vec<u32>) {
    let Ok(entries) = fs::read_dir("/proc") else {
        return (Usage::default(), Vec::new());
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
    let below = members.split_off(1);
    if below.is_empty() {
        return (Usage::default(), below);
    }
    let hertz = rustix::param::clock_ticks_per_second().max(1);
    let usage = Usage {
        cpu_ns: Some(ticks.saturating_mul(1_000_000_000 / hertz)),
        memory_bytes: Some(pages.saturating_mul(rustix::param::page_size() as u64)),
    };
    (usage, below)
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
        assert_eq!(tree(u32::MAX), (Usage::default(), Vec::new()));
    }

    #[test]
    fn shared_memory_is_read_by_its_share() {
        let text = "55d0-7ffd ---p 00000000 00:00 0 [rollup]\nRss: 4096 kB\nPss:  1024 kB\nPss_Dirty: 8 kB\n";
        assert_eq!(parse_pss(text), Some(1 << 20));
        assert_eq!(parse_pss("Rss: 1 kB\n"), None);
    }
}
