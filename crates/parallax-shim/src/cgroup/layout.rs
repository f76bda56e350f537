//! Which hierarchies a machine has, and where in them replicas may live.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use super::{Cgroup, CgroupError, CgroupLimits, limits, members, read, write_existing};

/// A part of the kernel that accounts for or limits a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Controller {
    /// Processor shares.
    Cpu,
    /// Processor time, in version 1 apart from `Cpu`.
    Cpuacct,
    /// Memory.
    Memory,
    /// Processes and threads.
    Pids,
}

impl Controller {
    const ALL: [Self; 4] = [Self::Cpu, Self::Cpuacct, Self::Memory, Self::Pids];

    /// The kernel's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The version of the hierarchies that have the controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupVersion {
    /// One tree per controller.
    V1,
    /// One tree for all.
    V2,
}

/// The hierarchies in which this process may create cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroups {
    hierarchies: Vec<Hierarchy>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// The cgroup below which replicas get theirs.
    pub(super) base: PathBuf,
    pub(super) v2: bool,
    pub(super) controllers: Vec<Controller>,
}

/// Below version 2, a cgroup with processes of its own cannot hand controllers to its children.
/// The process that creates replicas therefore moves into this leaf when it must.
const LEAF: &str = "parallax-host";

impl Cgroups {
    /// Looks for hierarchies below the caller's own cgroup, and keeps those in which a folder can
    /// be made. Costs a few milliseconds.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn detect() -> Result<Self, CgroupError> {
        let file = |path: &'static str| {
            let path = Path::new(path);
            read(path).map(Option::unwrap_or_default)
        };
        let mut hierarchies = parse(&file("/proc/self/mountinfo")?, &file("/proc/self/cgroup")?);
        // A name of its own for each call: another thread's folder must not look like a refusal.
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let probe = format!("parallax-probe-{}-{call}", std::process::id());
        hierarchies.retain(|hierarchy| {
            let dir = hierarchy.base.join(&probe);
            fs::create_dir(&dir).is_ok() && fs::remove_dir(&dir).is_ok()
        });
        Ok(Self { hierarchies })
    }

    /// The controllers that can limit a replica here.
    pub fn controllers(&self) -> Vec<Controller> {
        let mut found: Vec<_> = self
            .hierarchies
            .iter()
            .flat_map(|hierarchy| hierarchy.controllers.iter().copied())
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The version of the hierarchies that have controllers; `None` when none has.
    pub fn version(&self) -> Option<CgroupVersion> {
        let mut with = self
            .hierarchies
            .iter()
            .filter(|hierarchy| !hierarchy.controllers.is_empty());
        let first = with.next()?;
        Some(if first.v2 {
            CgroupVersion::V2
        } else {
            CgroupVersion::V1
        })
    }

    /// The folders below which replicas get theirs.
    pub fn bases(&self) -> Vec<PathBuf> {
        self.hierarchies
            .iter()
            .map(|hierarchy| hierarchy.base.clone())
            .collect()
    }

    /// Makes the cgroup `<parent>/<name>` in every hierarchy and sets its limits.
    ///
    /// # Errors
    /// [`CgroupError::Unavailable`] when a limit cannot be enforced: nothing is left behind then.
    /// [`CgroupError::Occupied`] when it exists and holds processes.
    pub fn create(
        &self,
        parent: &str,
        name: &str,
        limits: &CgroupLimits,
    ) -> Result<Cgroup, CgroupError> {
        check_name(parent)?;
        check_name(name)?;
        self.check_limits(limits)?;
        let mut made = Cgroup { dirs: Vec::new() };
        for hierarchy in &self.hierarchies {
            let dir = hierarchy.base.join(parent).join(name);
            made.dirs.push(dir.clone());
            if let Err(error) = hierarchy.create(parent, &dir, limits) {
                // The first error is the one to tell; folders that cannot be removed either are
                // empty and found again by the same name.
                let _ = made.remove();
                return Err(error);
            }
        }
        Ok(made)
    }

    fn check_limits(&self, limits: &CgroupLimits) -> Result<(), CgroupError> {
        let available = self.controllers();
        let wanted = [
            (Controller::Cpu, limits.cpu_millis.is_some()),
            (Controller::Memory, limits.memory_bytes.is_some()),
            (Controller::Pids, limits.pids.is_some()),
        ];
        for (controller, wanted) in wanted {
            if wanted && !available.contains(&controller) {
                return Err(CgroupError::Unavailable { controller });
            }
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn fake(hierarchies: Vec<Hierarchy>) -> Self {
        Self { hierarchies }
    }
}

impl Hierarchy {
    fn create(&self, parent: &str, dir: &Path, limits: &CgroupLimits) -> Result<(), CgroupError> {
        let parent = self.base.join(parent);
        make(&parent)?;
        make(dir)?;
        if !members(dir).is_empty() {
            return Err(CgroupError::Occupied {
                path: dir.to_path_buf(),
            });
        }
        if self.v2 {
            for controller in &self.controllers {
                self.enable(&parent, *controller)?;
            }
        }
        limits::set(dir, self.v2, &self.controllers, limits)
    }

    /// Hands a controller down from the base to the replicas.
    fn enable(&self, parent: &Path, controller: Controller) -> Result<(), CgroupError> {
        let enable = format!("+{controller}");
        let control = self.base.join("cgroup.subtree_control");
        if let Err(error) = write_existing(&control, &enable) {
            if error.kind() != io::ErrorKind::ResourceBusy {
                return Err(CgroupError::io("write", &control)(error));
            }
            let leaf = self.base.join(LEAF);
            make(&leaf)?;
            super::write(&leaf.join("cgroup.procs"), "0")?;
            super::write(&control, &enable)?;
        }
        super::write(&parent.join("cgroup.subtree_control"), &enable)
    }
}

fn make(dir: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(CgroupError::io("create", dir)(error))
        }
        _ => Ok(()),
    }
}

fn check_name(name: &str) -> Result<(), CgroupError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.starts_with('.') || name.len() > 200 || !name.bytes().all(allowed) {
        return Err(CgroupError::Name(name.to_owned()));
    }
    Ok(())
}

/// The hierarchies that take part: each version 1 mount with a controller that matters, and the
/// version 2 mount, which also without controllers can kill a tree at once.
pub(super) fn parse(mountinfo: &str, own: &str) -> Vec<Hierarchy> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            let mut place = place.split(' ').skip(3);
            let (root, mount) = (place.next()?, unescape(place.next()?));
            let mut kind = kind.split(' ');
            let v2 = match kind.next()? {
                "cgroup" => false,
                "cgroup2" => true,
                _ => return None,
            };
            let options = kind.nth(1).unwrap_or_default();
            hierarchy(v2, root, Path::new(&mount), options, own)
        })
        .collect()
}

fn hierarchy(v2: bool, root: &str, mount: &Path, options: &str, own: &str) -> Option<Hierarchy> {
    let names: Vec<&str> = options.split(',').collect();
    let own_path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let same = if v2 {
            controllers.is_empty()
        } else {
            !controllers.is_empty() && controllers.split(',').all(|name| names.contains(&name))
        };
        same.then_some(path)
    })?;
    // In a container the mount may show only a part of the tree.
    let below = own_path
        .strip_prefix(root.trim_end_matches('/'))
        .unwrap_or("")
        .trim_start_matches('/');
    let mut base = mount.join(below);
    if !base.is_dir() {
        base = mount.to_path_buf();
    }
    if base.ends_with(LEAF) {
        base.pop();
    }
    let offered = if v2 {
        // An unreadable list offers nothing.
        read(&base.join("cgroup.controllers"))
            .ok()
            .flatten()
            .unwrap_or_default()
    } else {
        options.replace(',', " ")
    };
    let controllers: Vec<_> = Controller::ALL
        .into_iter()
        .filter(|controller| {
            offered
                .split_whitespace()
                .any(|name| name == controller.name())
        })
        .collect();
    (v2 || !controllers.is_empty()).then_some(Hierarchy {
        base,
        v2,
        controllers,
    })
}

/// Mount points escape blanks as octal numbers.
fn unescape(mount: &str) -> String {
    mount
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\134", "\\")
}
