//! Which walls this machine can put around tenants' processes, and what stays readable inside.

use std::path::{Path, PathBuf};

use parallax_core::host::IsolationMeans;
use parallax_shim::isolation::IsolationProbe;
use parallax_shim::spec::Isolation;

use crate::error::HostError;

/// What every program needs of the system, and nothing that is anybody's secret. `/proc` is
/// readable: Landlock itself keeps the environment and memory of processes outside the domain
/// closed. `/dev/shm` is not there, because what one agent puts in it others could read.
const SYSTEM_PATHS: [&str; 41] = [
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/bin",
    "/sbin",
    "/opt",
    "/proc",
    "/etc/alternatives",
    "/etc/bash.bashrc",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/debian_version",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/inputrc",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki",
    "/etc/profile",
    "/etc/protocols",
    "/etc/python3",
    "/etc/resolv.conf",
    "/etc/rpc",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
    "/etc/timezone",
    "/run/systemd/resolve",
];

/// The wall of this host.
#[derive(Clone, Debug)]
pub(crate) struct Sandbox {
    wall: Wall,
    system: Vec<PathBuf>,
    protected: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wall {
    Landlock,
    Bubblewrap(PathBuf),
    None { unsafe_allowed: bool },
}

impl Sandbox {
    /// Chooses by what was probed: Landlock, else bubblewrap, else nothing; or the means that was
    /// asked for. Another user alone is no means here: the host's folder is closed to every other
    /// user, so that one could not even read its own revision.
    ///
    /// # Errors
    /// When a protected folder lies where every agent may read, or what was asked for does not work.
    pub(crate) fn choose(
        probe: &IsolationProbe,
        asked_for: Option<IsolationMeans>,
        unsafe_allowed: bool,
        protected: &[PathBuf],
    ) -> Result<Self, HostError> {
        let means = match asked_for {
            Some(means) => available(probe, means)?,
            None => Self::means_of(probe),
        };
        let wall = match (means, &probe.bubblewrap) {
            (IsolationMeans::Landlock, _) => Wall::Landlock,
            (IsolationMeans::Bubblewrap, Some(program)) => Wall::Bubblewrap(program.clone()),
            _ => Wall::None { unsafe_allowed },
        };
        let system: Vec<PathBuf> = SYSTEM_PATHS
            .into_iter()
            .map(PathBuf::from)
            .filter(|path| path.exists())
            .collect();
        let protected: Vec<PathBuf> = protected.iter().map(|path| real(path)).collect();
        for path in &protected {
            if let Some(readable) = system.iter().find(|readable| covers(readable, path)) {
                return Err(HostError::CannotProtect {
                    path: path.clone(),
                    readable: readable.clone(),
                });
            }
        }
        Ok(Self {
            wall,
            system,
            protected,
        })
    }

    /// The means that a probe leads to.
    pub(crate) fn means_of(probe: &IsolationProbe) -> IsolationMeans {
        match (&probe.bubblewrap, probe.landlock_usable) {
            (_, true) => IsolationMeans::Landlock,
            (Some(_), false) => IsolationMeans::Bubblewrap,
            (None, false) => IsolationMeans::None,
        }
    }

    /// The means in force.
    pub(crate) fn means(&self) -> IsolationMeans {
        match self.wall {
            Wall::Landlock => IsolationMeans::Landlock,
            Wall::Bubblewrap(_) => IsolationMeans::Bubblewrap,
            Wall::None { .. } => IsolationMeans::None,
        }
    }

    /// Whether only one tenant may be served, because nothing keeps its processes apart.
    pub(crate) fn single_tenant(&self) -> bool {
        matches!(
            self.wall,
            Wall::None {
                unsafe_allowed: true
            }
        )
    }

    /// Whether nothing may be run at all.
    pub(crate) fn refuses_all(&self) -> bool {
        matches!(
            self.wall,
            Wall::None {
                unsafe_allowed: false
            }
        )
    }

    /// What every status says: `landlock+cgroup1`, `none (unsafe)+rlimit`.
    pub(crate) fn words(&self, limits: &str) -> String {
        match self.wall {
            Wall::None { .. } => format!("none (unsafe)+{limits}"),
            _ => format!("{}+{limits}", self.means().as_str()),
        }
    }

    /// The wall around one process that may read `read_only` and the system's own files, and
    /// change `read_write`. A folder that would open a protected one is left out.
    pub(crate) fn around(
        &self,
        read_only: impl IntoIterator<Item = PathBuf>,
        read_write: impl IntoIterator<Item = PathBuf>,
    ) -> Isolation {
        let mut readable = self.system.clone();
        readable.extend(read_only.into_iter().filter(|path| {
            let real = real(path);
            path.exists() && !self.protected.iter().any(|it| covers(&real, it))
        }));
        readable.sort();
        readable.dedup();
        let read_write: Vec<PathBuf> = read_write.into_iter().collect();
        match &self.wall {
            Wall::Landlock => Isolation::Landlock {
                read_only: readable,
                read_write,
                uid: None,
                gid: None,
            },
            Wall::Bubblewrap(program) => Isolation::Bubblewrap {
                program: program.clone(),
                // It mounts a /proc of its own.
                read_only: readable
                    .into_iter()
                    .filter(|path| path != Path::new("/proc"))
                    .collect(),
                read_write,
            },
            Wall::None { .. } => Isolation::None,
        }
    }
}

/// The means that was asked for, if it works here.
fn available(probe: &IsolationProbe, means: IsolationMeans) -> Result<IsolationMeans, HostError> {
    let why = match means {
        IsolationMeans::Landlock if probe.landlock_usable => return Ok(means),
        IsolationMeans::Bubblewrap if probe.bubblewrap.is_some() => return Ok(means),
        IsolationMeans::Landlock => format!(
            "the kernel has Landlock version {}, and Linux 6.12 has the one that is needed",
            probe.landlock_abi
        ),
        IsolationMeans::Bubblewrap => probe.bubblewrap_refusal.clone().unwrap_or_default(),
        IsolationMeans::Uid | IsolationMeans::None => {
            "a host offers landlock and bubblewrap".to_owned()
        }
    };
    Err(HostError::MeansUnavailable { means, why })
}

/// Whether reading `folder` means reading `path`.
fn covers(folder: &Path, path: &Path) -> bool {
    path.starts_with(real(folder))
}

fn real(path: &Path) -> PathBuf {
    // What does not exist yet is taken by its name.
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use parallax_shim::isolation::CgroupProbe;

    use super::*;

    fn probe(landlock: bool, bubblewrap: bool) -> IsolationProbe {
        IsolationProbe {
            landlock_abi: 7,
            landlock_usable: landlock,
            bubblewrap: bubblewrap.then(|| PathBuf::from("/usr/bin/bwrap")),
            bubblewrap_refusal: (!bubblewrap).then(|| "no namespaces".to_owned()),
            can_change_uid: true,
            userns: false,
            userns_refusal: Some("not permitted".to_owned()),
            cgroup: CgroupProbe::None,
        }
    }

    fn means(landlock: bool, bubblewrap: bool) -> IsolationMeans {
        Sandbox::choose(&probe(landlock, bubblewrap), None, false, &[])
            .expect("nothing is protected")
            .means()
    }

    #[test]
    fn the_strongest_means_that_works_is_chosen() {
        assert_eq!(means(true, true), IsolationMeans::Landlock);
        assert_eq!(means(false, true), IsolationMeans::Bubblewrap);
        assert_eq!(means(false, false), IsolationMeans::None);
    }

    #[test]
    fn what_was_asked_for_is_given_or_refused_with_the_reason() {
        let ask = |means| Sandbox::choose(&probe(true, false), Some(means), false, &[]);
        let given = ask(IsolationMeans::Landlock).expect("it works");
        assert_eq!(given.means(), IsolationMeans::Landlock);
        let refused = ask(IsolationMeans::Bubblewrap).expect_err("it does not work");
        assert!(refused.to_string().ends_with("no namespaces"), "{refused}");
        let both = probe(true, true);
        let given = Sandbox::choose(&both, Some(IsolationMeans::Bubblewrap), false, &[]);
        assert_eq!(given.expect("it works").means(), IsolationMeans::Bubblewrap);
    }

    #[test]
    fn without_means_everything_is_refused_unless_told_otherwise() {
        let strict =
            Sandbox::choose(&probe(false, false), None, false, &[]).expect("nothing to protect");
        assert!(strict.refuses_all() && !strict.single_tenant());
        let lax =
            Sandbox::choose(&probe(false, false), None, true, &[]).expect("nothing to protect");
        assert!(!lax.refuses_all() && lax.single_tenant());
        assert_eq!(lax.words("rlimit"), "none (unsafe)+rlimit");
    }

    #[test]
    fn a_protected_folder_where_agents_may_read_is_refused() {
        let protected = [PathBuf::from("/usr/lib/parallax-data")];
        let refusal = Sandbox::choose(&probe(true, false), None, false, &protected);
        assert!(matches!(refusal, Err(HostError::CannotProtect { .. })));
    }

    #[test]
    fn a_readable_folder_never_opens_a_protected_one() {
        let outer = tempfile::tempdir().expect("a temporary folder can be made");
        let data = outer.path().join("data");
        let sandbox =
            Sandbox::choose(&probe(true, false), None, false, &[data]).expect("it is hidden");
        let isolation = sandbox.around([outer.path().to_path_buf()], []);
        let Isolation::Landlock { read_only, .. } = isolation else {
            panic!("Landlock was probed");
        };
        assert!(!read_only.contains(&outer.path().to_path_buf()));
    }
}
