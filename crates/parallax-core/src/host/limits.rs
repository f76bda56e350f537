//! Which limits of a replica a host's kernel enforces, and the one word that says so.

use std::fmt;

/// The word for a host on which no cgroup can be made.
const RLIMIT: &str = "rlimit";

/// What a host's kernel limits. What it does not: memory is watched by the host, processes are
/// limited by `RLIMIT_NPROC`, and CPU is not limited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelLimits {
    version: Option<String>,
    /// Shares of the processors.
    pub cpu: bool,
    /// Memory.
    pub memory: bool,
    /// Processes and threads, also of root.
    pub pids: bool,
}

impl KernelLimits {
    /// Those of cgroups of this version, `cgroup1` or `cgroup2`, with these controllers.
    #[must_use]
    pub fn of_cgroups(version: &str, cpu: bool, memory: bool, pids: bool) -> Self {
        let version = (cpu || memory || pids).then(|| version.to_owned());
        Self {
            version,
            cpu,
            memory,
            pids,
        }
    }

    /// Those of a host without cgroups.
    #[must_use]
    pub fn none() -> Self {
        Self::of_cgroups("", false, false, false)
    }

    /// Reads what [`Display`](fmt::Display) writes. A word of another host's version counts as no
    /// limit: nothing is claimed that was not understood.
    #[must_use]
    pub fn of_word(word: &str) -> Self {
        let (version, listed) = match word.split_once('(') {
            Some((version, rest)) => (version, rest.strip_suffix(')')),
            None => (word, Some("cpu,memory,pids")),
        };
        let Some(listed) = listed.filter(|_| version.starts_with("cgroup")) else {
            return Self::none();
        };
        let has = |name| listed.split(',').any(|it| it == name);
        Self::of_cgroups(version, has("cpu"), has("memory"), has("pids"))
    }

    /// For people: what holds of each limit.
    #[must_use]
    pub fn words(&self) -> String {
        if self.cpu && self.memory && self.pids {
            return "CPU, memory and processes are limited".to_owned();
        }
        let say = |yes, limited: &str, not: &str| if yes { limited } else { not }.to_owned();
        [
            say(
                self.pids,
                "processes are limited",
                "processes are limited, but not root's",
            ),
            say(self.memory, "memory is limited", "memory is watched"),
            say(self.cpu, "CPU is limited", "CPU is not limited"),
        ]
        .join(", ")
    }
}

impl fmt::Display for KernelLimits {
    /// `cgroup2`; `cgroup2(cpu,pids)` where the version lacks a controller; `rlimit`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(version) = &self.version else {
            return f.write_str(RLIMIT);
        };
        f.write_str(version)?;
        let all = [
            ("cpu", self.cpu),
            ("memory", self.memory),
            ("pids", self.pids),
        ];
        let held: Vec<&str> = all
            .into_iter()
            .filter_map(|(name, held)| held.then_some(name))
            .collect();
        if held.len() == all.len() {
            return Ok(());
        }
        write!(f, "({})", held.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_names_the_limits_where_not_all_hold() {
        let cases = [
            (
                KernelLimits::of_cgroups("cgroup2", true, true, true),
                "cgroup2",
            ),
            (
                KernelLimits::of_cgroups("cgroup1", true, false, true),
                "cgroup1(cpu,pids)",
            ),
            (
                KernelLimits::of_cgroups("cgroup2", false, false, false),
                "rlimit",
            ),
            (KernelLimits::none(), "rlimit"),
        ];
        for (limits, word) in cases {
            assert_eq!(limits.to_string(), word);
            assert_eq!(KernelLimits::of_word(word), limits);
        }
    }

    #[test]
    fn a_word_that_is_not_understood_claims_nothing() {
        for word in ["", "quota", "cgroup2(cpu"] {
            assert_eq!(KernelLimits::of_word(word), KernelLimits::none());
        }
        let newer = KernelLimits::of_word("cgroup3(io,memory)");
        assert_eq!((newer.cpu, newer.memory, newer.pids), (false, true, false));
    }

    #[test]
    fn people_are_told_of_each_limit_that_does_not_hold() {
        let words = |word| KernelLimits::of_word(word).words();
        assert_eq!(words("cgroup2"), "CPU, memory and processes are limited");
        assert_eq!(
            words("cgroup2(cpu,pids)"),
            "processes are limited, memory is watched, CPU is limited"
        );
        assert_eq!(
            words("rlimit"),
            "processes are limited, but not root's, memory is watched, CPU is not limited"
        );
    }
}
