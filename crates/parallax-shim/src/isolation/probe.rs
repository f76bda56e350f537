//! What this machine can do to keep children apart, found out by trying.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, WaitOptions};
use rustix::thread::{Gid, Uid};
use serde::{Deserialize, Serialize};

use super::MIN_LANDLOCK_ABI;
use crate::cgroup::{CgroupVersion, Cgroups, Controller};
use crate::sys;

/// How long `bwrap` may take to run a program that does nothing.
const BUBBLEWRAP_PATIENCE: Duration = Duration::from_secs(2);
/// The user "nobody" of every distribution.
const NOBODY: u32 = 65534;

/// What this machine offers. Absent means tried and refused, not unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsolationProbe {
    /// The kernel's Landlock version; 0 for none.
    pub landlock_abi: u32,
    /// Whether a child in a Landlock domain was in fact kept from a file and from signalling.
    pub landlock_usable: bool,
    /// A `bwrap` that works here.
    pub bubblewrap: Option<PathBuf>,
    /// Whether a child can become another user.
    pub can_change_uid: bool,
    /// Whether a child can make a user namespace.
    pub userns: bool,
    /// Which cgroup limits can be set.
    pub cgroup: CgroupProbe,
}

/// Which cgroup limits can be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CgroupProbe {
    /// None: only resource limits of single processes.
    None,
    /// Version 1 hierarchies in which a cgroup could be made.
    V1 {
        /// Their controllers.
        controllers: Vec<Controller>,
    },
    /// The version 2 hierarchy, in which a cgroup could be made.
    V2 {
        /// Its controllers.
        controllers: Vec<Controller>,
    },
}

/// Tries out what keeps children apart: a few forks, no daemon, some milliseconds.
///
/// What cannot be tried counts as absent.
pub fn probe() -> IsolationProbe {
    let landlock_abi = sys::confine::landlock_abi();
    IsolationProbe {
        landlock_abi,
        landlock_usable: landlock_abi >= MIN_LANDLOCK_ABI && landlock_works(),
        bubblewrap: find_bubblewrap(),
        can_change_uid: in_child(|| {
            rustix::thread::set_thread_groups(&[])?;
            let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            rustix::thread::set_thread_res_gid(gid, gid, gid)?;
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
            Ok(true)
        }),
        userns: in_child(|| {
            let result = try_user_namespace();
            Ok(result.is_ok())
        }),
        cgroup: cgroups(),
    }
}

/// Forks a child into a domain that allows nothing, and sees whether it holds.
fn landlock_works() -> bool {
    let mut skipped = Vec::new();
    let Ok(ruleset) = super::ruleset(&[], &[], &mut skipped) else {
        return false;
    };
    let parent = rustix::process::getpid();
    in_child(move || {
        let read = || rustix::fs::open(c"/proc/self/stat", OFlags::RDONLY, Mode::empty());
        // A refusal counts only where there was no refusal before.
        drop(read()?);
        rustix::process::test_kill_process(parent)?;
        rustix::thread::set_no_new_privs(true)?;
        sys::confine::landlock_restrict(ruleset.as_fd()).map_err(|_| rustix::io::Errno::IO)?;
        let blind = read().is_err_and(|error| error == rustix::io::Errno::ACCESS);
        let harmless = rustix::process::test_kill_process(parent)
            .is_err_and(|error| error == rustix::io::Errno::PERM);
        Ok(blind && harmless)
    })
}

/// Runs `test` in a forked child. It must make system calls only: the caller may have threads.
fn in_child(test: impl FnOnce() -> rustix::io::Result<bool>) -> bool {
    let child = || u8::from(!matches!(test(), Ok(true)));
    // SAFETY: every test above makes system calls on data that exists already, nothing else.
    #[expect(unsafe_code, reason = "fork")]
    let forked = unsafe { sys::process::fork(child) };
    let Ok(pid) = forked else {
        return false;
    };
    wait_for(pid) == Some(0)
}

fn wait_for(pid: Pid) -> Option<i32> {
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => return status.exit_status(),
            Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

#[expect(unsafe_code, reason = "unshare can break promises about descriptors")]
fn try_user_namespace() -> rustix::io::Result<()> {
    // SAFETY: a new user namespace leaves the descriptors alone.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWUSER) }
}

fn find_bubblewrap() -> Option<PathBuf> {
    ["/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap"]
        .into_iter()
        .map(PathBuf::from)
        .find(|program| program.exists() && bubblewrap_works(program))
}

fn bubblewrap_works(program: &Path) -> bool {
    let truth = ["/usr/bin/true", "/bin/true"]
        .into_iter()
        .find(|path| fs::metadata(path).is_ok());
    let Some(truth) = truth else { return false };
    let child = Command::new(program)
        .args(super::BUBBLEWRAP_OPTIONS)
        .args(["--ro-bind", "/", "/", "--", truth])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    let ended = Pid::from_raw(child.id().cast_signed())
        .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok())
        .is_some_and(|pidfd| {
            let patience = Timespec {
                tv_sec: BUBBLEWRAP_PATIENCE.as_secs().cast_signed(),
                tv_nsec: 0,
            };
            let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&patience)).is_ok_and(|ready| ready > 0)
        });
    if !ended {
        // It is waited for below; a failed kill means that it has ended after all.
        let _ = child.kill();
    }
    child.wait().is_ok_and(|status| ended && status.success())
}

fn cgroups() -> CgroupProbe {
    let Ok(found) = Cgroups::detect() else {
        return CgroupProbe::None;
    };
    let controllers = found.controllers();
    match found.version() {
        None => CgroupProbe::None,
        Some(CgroupVersion::V1) => CgroupProbe::V1 { controllers },
        Some(CgroupVersion::V2) => CgroupProbe::V2 { controllers },
    }
}
