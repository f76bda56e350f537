//! Walls around a child: prepared before the fork, put up between fork and exec.

mod probe;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, Scope,
};

use crate::spec::Isolation;
use crate::sys::seccomp::Filter;

pub use probe::{CgroupProbe, IsolationProbe, probe};

/// The first Landlock version that scopes signals and abstract sockets. Without the scopes a child
/// could stop its neighbours, so an older kernel is refused and not half used.
pub const MIN_LANDLOCK_ABI: u32 = 6;

/// The newest rights that are used where the kernel has them: those of version 9 also cover
/// sockets with a path.
const NEWEST_ABI: ABI = ABI::V9;

/// Devices that every program may expect; reading `true`, changing `false` where it makes sense.
const DEVICES: [(&str, Device); 6] = [
    ("/dev/null", Device::ReadWrite),
    ("/dev/zero", Device::ReadWrite),
    ("/dev/full", Device::ReadWrite),
    ("/dev/tty", Device::ReadWrite),
    ("/dev/random", Device::Read),
    ("/dev/urandom", Device::Read),
];

#[derive(Clone, Copy)]
enum Device {
    Read,
    ReadWrite,
}

/// Why a child cannot be isolated as asked.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// The kernel has no Landlock, or one that cannot scope signals.
    #[error(
        "this kernel has Landlock version {found} but isolation needs {MIN_LANDLOCK_ABI}; use another isolation (parallax doctor lists them) or Linux 6.12 or later"
    )]
    LandlockTooOld {
        /// The version; 0 for none.
        found: u32,
    },
    /// The kernel refused the rules.
    #[error("cannot build the Landlock rules")]
    Ruleset(#[from] landlock::RulesetError),
    /// A path of the rules exists but cannot be opened.
    #[error("cannot open {path} for the isolation rules")]
    Path {
        /// The path.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A path that is not text cannot be passed to `bwrap`.
    #[error("{0} is not UTF-8, which Bubblewrap isolation needs")]
    NotUtf8(PathBuf),
}

/// A wall, ready to be put up around a forked child.
#[derive(Debug, Default)]
pub(crate) struct Walls {
    /// The Landlock domain to enter.
    pub(crate) ruleset: Option<OwnedFd>,
    /// User and group to become.
    pub(crate) ids: Option<(u32, u32)>,
    /// Whether to give up capabilities and the way back to them, and the calls that this filter
    /// forbids.
    pub(crate) drop_rights: Option<Filter>,
    /// What to put before the command.
    pub(crate) argv_prefix: Vec<String>,
    /// Paths that the spec names and the machine lacks.
    pub(crate) skipped: Vec<PathBuf>,
}

/// Prepares what `isolation` asks for a child with working directory `cwd`.
///
/// # Errors
/// When the machine cannot give all of it; less is never given silently.
pub(crate) fn prepare(isolation: &Isolation, cwd: &Path) -> Result<Walls, IsolationError> {
    match isolation {
        Isolation::None => Ok(Walls::default()),
        Isolation::Landlock {
            read_only,
            read_write,
            uid,
            gid,
        } => {
            let mut skipped = Vec::new();
            let ruleset = ruleset(read_only, read_write, &mut skipped)?;
            Ok(Walls {
                ruleset: Some(ruleset),
                ids: ids(*uid, *gid),
                drop_rights: Some(Filter::new()),
                argv_prefix: Vec::new(),
                skipped,
            })
        }
        Isolation::Bubblewrap {
            program,
            read_only,
            read_write,
        } => bubblewrap(program, read_only, read_write, cwd),
        Isolation::Uid { uid, gid } => Ok(Walls {
            ids: Some((*uid, *gid)),
            drop_rights: Some(Filter::new()),
            ..Walls::default()
        }),
    }
}

/// A group without a user stays with the shim's user; a user without a group gets the group of its
/// own number, never the shim's.
fn ids(uid: Option<u32>, gid: Option<u32>) -> Option<(u32, u32)> {
    match (uid, gid) {
        (None, None) => None,
        (Some(uid), gid) => Some((uid, gid.unwrap_or(uid))),
        (None, Some(gid)) => Some((rustix::process::geteuid().as_raw(), gid)),
    }
}

/// A Landlock ruleset: everything is forbidden but what the lists allow.
fn ruleset(
    read_only: &[PathBuf],
    read_write: &[PathBuf],
    skipped: &mut Vec<PathBuf>,
) -> Result<OwnedFd, IsolationError> {
    let found = crate::sys::confine::landlock_abi();
    if found < MIN_LANDLOCK_ABI {
        return Err(IsolationError::LandlockTooOld { found });
    }
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V6))?
        .scope(Scope::from_all(ABI::V6))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST_ABI))?
        .create()?;
    let read = AccessFs::from_read(NEWEST_ABI);
    for path in read_only {
        rules = allow(rules, path, read, skipped)?;
    }
    for path in read_write {
        rules = allow(rules, path, AccessFs::from_all(NEWEST_ABI), skipped)?;
    }
    // A container may lack some of the devices; a program that needs one will say so itself.
    let mut absent_devices = Vec::new();
    for (path, device) in DEVICES {
        let access = match device {
            Device::Read => AccessFs::ReadFile.into(),
            Device::ReadWrite => AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev,
        };
        rules = allow(rules, Path::new(path), access, &mut absent_devices)?;
    }
    let fd: Option<OwnedFd> = rules.into();
    fd.ok_or(IsolationError::LandlockTooOld { found })
}

fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
    skipped: &mut Vec<PathBuf>,
) -> Result<RulesetCreated, IsolationError> {
    let Some(is_dir) = kind(path)? else {
        skipped.push(path.to_path_buf());
        return Ok(rules);
    };
    let access = if is_dir {
        access
    } else {
        access & AccessFs::from_file(NEWEST_ABI)
    };
    let fd = PathFd::new(path).map_err(|error| IsolationError::Path {
        path: path.to_path_buf(),
        source: io::Error::other(error),
    })?;
    Ok(rules.add_rule(PathBeneath::new(fd, access))?)
}

/// Whether a path is a folder; `None` when it does not exist.
fn kind(path: &Path) -> Result<Option<bool>, IsolationError> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.is_dir())),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(source) => Err(IsolationError::Path {
            path: path.to_path_buf(),
            source,
        }),
    }
}

fn bubblewrap(
    program: &Path,
    read_only: &[PathBuf],
    read_write: &[PathBuf],
    cwd: &Path,
) -> Result<Walls, IsolationError> {
    let mut skipped = Vec::new();
    let mut binds: Vec<(&Path, &str)> = Vec::new();
    for (paths, option) in [(read_only, "--ro-bind"), (read_write, "--bind")] {
        for path in paths {
            match kind(path)? {
                Some(_) => binds.push((path, option)),
                None => skipped.push(path.clone()),
            }
        }
    }
    // A mount hides what was mounted below it before, so outer paths come first. The sort is
    // stable: a path on both lists ends up writable.
    binds.sort_by_key(|(path, _)| path.components().count());
    let mut argv: Vec<String> = vec![utf8(program)?];
    argv.extend(BUBBLEWRAP_OPTIONS.map(str::to_owned));
    for (path, option) in binds {
        argv.extend([option.to_owned(), utf8(path)?, utf8(path)?]);
    }
    // The folders on the way to what was mounted are nobody's to write to.
    argv.extend(["--remount-ro", "/", "--chdir"].map(str::to_owned));
    argv.extend([utf8(cwd)?, "--".to_owned()]);
    Ok(Walls {
        argv_prefix: argv,
        skipped,
        ..Walls::default()
    })
}

/// All namespaces but the network's, which an agent needs to reach its control plane. The devices
/// come with a `/dev/shm` of their own.
const BUBBLEWRAP_OPTIONS: [&str; 12] = [
    "--unshare-user-try",
    "--unshare-ipc",
    "--unshare-pid",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--die-with-parent",
    "--cap-drop",
    "ALL",
    "--dev",
    "/dev",
    "--proc",
    "/proc",
];

fn utf8(path: &Path) -> Result<String, IsolationError> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| IsolationError::NotUtf8(path.to_path_buf()))
}
