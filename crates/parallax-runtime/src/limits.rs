//! Limits on CPU, memory and processes: by cgroup where one can be made, else by rlimits.

use std::path::PathBuf;

use parallax_core::host::KernelLimits;
use parallax_core::manifest::Resources;
use parallax_shim::cgroup::{Cgroup, CgroupLimits, CgroupVersion, Cgroups, Controller};
use parallax_shim::spec::Rlimits;

use crate::error::HostError;

/// The cgroup below which each replica and each build has its own.
const PARENT: &str = "parallax";

/// Processes and threads of a replica that names no limit: more than any sane agent has, far fewer
/// than a fork bomb needs to hurt its neighbours.
pub(crate) const DEFAULT_PIDS: u32 = 512;

/// Processes and threads of a build: package managers start many workers.
pub(crate) const BUILD_PIDS: u32 = 2048;

/// What one replica or build may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) cpu_millis: Option<u32>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) pids: u32,
}

impl Limits {
    /// Those of a spec, with the host's defaults for what it leaves out.
    pub(crate) fn of(resources: &Resources) -> Self {
        Self {
            cpu_millis: resources
                .cpu
                .map(|cpu| u32::try_from(cpu.get()).unwrap_or(u32::MAX)),
            memory_bytes: resources.memory.map(|memory| memory.get()),
            pids: resources.pids.unwrap_or(DEFAULT_PIDS),
        }
    }

    /// Those of a build.
    pub(crate) const fn build() -> Self {
        Self {
            cpu_millis: None,
            memory_bytes: None,
            pids: BUILD_PIDS,
        }
    }
}

/// How this machine enforces limits.
#[derive(Clone, Debug)]
pub(crate) struct Limiter {
    /// `None` where no cgroup can be made.
    cgroups: Option<Cgroups>,
    enforced: KernelLimits,
}

impl Limiter {
    /// A machine on which no cgroup can be made, or is to be.
    pub(crate) fn without_cgroups() -> Self {
        Self {
            cgroups: None,
            enforced: KernelLimits::none(),
        }
    }

    /// What the kernel limits; of memory the host sees to the rest, look by look.
    pub(crate) fn enforced(&self) -> &KernelLimits {
        &self.enforced
    }

    /// Looks for writable cgroups. Blocks for milliseconds.
    pub(crate) fn detect() -> Self {
        let cgroups = match Cgroups::detect() {
            Ok(cgroups) => Some(cgroups),
            Err(error) => {
                tracing::warn!(
                    error = crate::error::chain(&error),
                    "cannot look for cgroups; limits are enforced by rlimits"
                );
                None
            }
        };
        let cgroups = cgroups.filter(|cgroups| cgroups.version().is_some());
        let found = cgroups.as_ref();
        let controllers = found.map_or_else(Vec::new, Cgroups::controllers);
        let enforced = enforced(found.and_then(Cgroups::version), &controllers);
        Self { cgroups, enforced }
    }

    /// `cgroup1`, `cgroup2`, `cgroup2(cpu,pids)`, `rlimit`.
    pub(crate) fn word(&self) -> String {
        self.enforced.to_string()
    }

    /// Makes the cgroup of a replica or build; `None` where rlimits have to do. One that exists
    /// and is empty is used again with the new limits.
    ///
    /// # Errors
    /// When it cannot be made although others could.
    pub(crate) fn create(&self, name: &str, limits: &Limits) -> Result<Option<Cgroup>, HostError> {
        let Some(cgroups) = &self.cgroups else {
            return Ok(None);
        };
        // What no controller limits is not set; the word in every status says so.
        let limits = CgroupLimits {
            cpu_millis: limits.cpu_millis.filter(|_| self.enforced.cpu),
            memory_bytes: limits.memory_bytes.filter(|_| self.enforced.memory),
            pids: Some(limits.pids).filter(|_| self.enforced.pids),
        };
        Ok(Some(cgroups.create(PARENT, name, &limits)?))
    }

    /// The cgroup folders that a replica or build of this name has now.
    pub(crate) fn existing(&self, name: &str) -> Option<Cgroup> {
        let bases = self.cgroups.as_ref()?.bases();
        let dirs: Vec<PathBuf> = bases
            .iter()
            .map(|base| base.join(PARENT).join(name))
            .filter(|dir| dir.is_dir())
            .collect();
        (!dirs.is_empty()).then(|| Cgroup::from_dirs(dirs))
    }

    /// What stands in for limits that no cgroup enforces.
    ///
    /// None for memory: the address space that a process reserves says little about the memory that
    /// it uses (a JavaScript runtime reserves tens of gigabytes). The host looks at what replicas
    /// use instead, and kills one that uses more than it may.
    pub(crate) fn rlimits(&self, limits: &Limits) -> Rlimits {
        Rlimits {
            nproc: (!self.enforced.pids).then_some(u64::from(limits.pids)),
            core: Some(0),
            ..Rlimits::default()
        }
    }
}

fn enforced(version: Option<CgroupVersion>, controllers: &[Controller]) -> KernelLimits {
    let version = match version {
        Some(CgroupVersion::V1) => "cgroup1",
        Some(CgroupVersion::V2) => "cgroup2",
        None => return KernelLimits::none(),
    };
    let has = |controller| controllers.contains(&controller);
    KernelLimits::of_cgroups(
        version,
        has(Controller::Cpu),
        has(Controller::Memory),
        has(Controller::Pids),
    )
}

/// Removes a cgroup with what still runs in it. Blocks for half a second at most.
pub(crate) fn remove(cgroup: &Cgroup) {
    for _ in 0..KILL_ROUNDS {
        if cgroup.kill().is_empty() {
            break;
        }
        std::thread::sleep(KILL_PAUSE);
    }
    if let Err(error) = cgroup.remove() {
        tracing::warn!(
            error = crate::error::chain(&error),
            "a cgroup could not be removed; `parallax down` tries again"
        );
    }
}

/// Rounds of killing before a cgroup is given up: processes in the kernel die a little later.
const KILL_ROUNDS: u32 = 50;
/// Between two rounds.
const KILL_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_controller_is_named_and_another_means_stands_in() {
        let limiter = |controllers: &[Controller]| Limiter {
            cgroups: None,
            enforced: enforced(Some(CgroupVersion::V2), controllers),
        };
        let limits = Limits {
            pids: 7,
            ..Limits::build()
        };
        let no_memory = limiter(&[Controller::Cpu, Controller::Pids]);
        assert_eq!(no_memory.word(), "cgroup2(cpu,pids)");
        assert!(!no_memory.enforced().memory, "the host has to look itself");
        assert_eq!(no_memory.rlimits(&limits).nproc, None);
        let no_pids = limiter(&[Controller::Cpu, Controller::Memory]);
        assert_eq!(no_pids.word(), "cgroup2(cpu,memory)");
        assert_eq!(no_pids.rlimits(&limits).nproc, Some(7));
        let accounts_only = limiter(&[Controller::Cpuacct]);
        assert_eq!(accounts_only.word(), "rlimit");
    }
}
