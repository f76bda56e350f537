//! What this machine can do to keep children apart, found out by trying.

use std::fs;
use std::io::{self, Read};
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
/// Bytes of its complaint that are kept.
const BUBBLEWRAP_WORDS: u64 = 1024;
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
    /// Why there is none that works, in the words of the program or the system.
    #[serde(default)]
    pub bubblewrap_refusal: Option<String>,
    /// Whether a child can become another user.
    pub can_change_uid: bool,
    /// Whether a child can make a user namespace.
    pub userns: bool,
    /// Why it cannot, in the words of the system.
    #[serde(default)]
    pub userns_refusal: Option<String>,
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
    let (bubblewrap, bubblewrap_refusal) = match find_bubblewrap() {
        Ok(program) => (Some(program), None),
        Err(refusal) => (None, Some(refusal.to_string())),
    };
    let userns_refusal = user_namespace_refusal();
    IsolationProbe {
        landlock_abi,
        landlock_usable: landlock_abi >= MIN_LANDLOCK_ABI && landlock_works(),
        bubblewrap,
        bubblewrap_refusal,
        can_change_uid: in_child(|| {
            rustix::thread::set_thread_groups(&[])?;
            let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            rustix::thread::set_thread_res_gid(gid, gid, gid)?;
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
            Ok(true)
        }),
        userns: userns_refusal.is_none(),
        userns_refusal,
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
    exit_code_of(|| u8::from(!matches!(test(), Ok(true)))) == Some(0)
}

/// The exit code of a forked child that runs `child`; `None` when there was no child, or it was
/// killed. It must make system calls only.
fn exit_code_of(child: impl FnOnce() -> u8) -> Option<i32> {
    // SAFETY: every test above makes system calls on data that exists already, nothing else.
    #[expect(unsafe_code, reason = "fork")]
    let forked = unsafe { sys::process::fork(child) };
    wait_for(forked.ok()?)
}

/// `None` when a child can make a user namespace.
fn user_namespace_refusal() -> Option<String> {
    // An error number fits an exit code; one that does not is an error all the same.
    let number = |error: rustix::io::Errno| u8::try_from(error.raw_os_error()).unwrap_or(u8::MAX);
    let code = exit_code_of(|| try_user_namespace().map_or_else(number, |()| 0));
    match code {
        Some(0) => None,
        Some(number) => Some(io::Error::from_raw_os_error(number).to_string()),
        None => Some("the child that tried was killed".to_owned()),
    }
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

/// Why no `bwrap` does.
#[derive(Debug, thiserror::Error)]
enum BubblewrapError {
    #[error("there is no bwrap (install the package bubblewrap)")]
    Absent,
    #[error("{} cannot be started: {}", program.display(), why)]
    Start { program: PathBuf, why: io::Error },
    #[error("{} did not end within {BUBBLEWRAP_PATIENCE:?}", program.display())]
    Slow { program: PathBuf },
    /// Its own words, such as "No permissions to create new namespace".
    #[error("{words}")]
    Refused { words: String },
}

fn find_bubblewrap() -> Result<PathBuf, BubblewrapError> {
    let mut refusal = BubblewrapError::Absent;
    for program in ["/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap"] {
        let program = PathBuf::from(program);
        if !program.exists() {
            continue;
        }
        match try_bubblewrap(&program) {
            Ok(()) => return Ok(program),
            // The first that is there is the one that a person would mend.
            Err(error) if matches!(refusal, BubblewrapError::Absent) => refusal = error,
            Err(_) => {}
        }
    }
    Err(refusal)
}

fn try_bubblewrap(program: &Path) -> Result<(), BubblewrapError> {
    let truth = ["/usr/bin/true", "/bin/true"]
        .into_iter()
        .find(|path| fs::metadata(path).is_ok())
        .unwrap_or("true");
    let mut child = Command::new(program)
        .args(super::BUBBLEWRAP_OPTIONS)
        .args(["--ro-bind", "/", "/", "--", truth])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|why| BubblewrapError::Start {
            program: program.to_path_buf(),
            why,
        })?;
    if !ends_in_time(child.id()) {
        // It is waited for below; a failed kill means that it has ended after all.
        let _ = child.kill();
        let _ = child.wait();
        return Err(BubblewrapError::Slow {
            program: program.to_path_buf(),
        });
    }
    let mut words = String::new();
    if let Some(stderr) = child.stderr.take() {
        // What is not text, or not readable, explains nothing.
        let _ = stderr.take(BUBBLEWRAP_WORDS).read_to_string(&mut words);
    }
    let status = child.wait().map_err(|why| BubblewrapError::Start {
        program: program.to_path_buf(),
        why,
    })?;
    match (status.success(), words.trim()) {
        (true, _) => Ok(()),
        (false, "") => Err(BubblewrapError::Refused {
            words: format!("{}: {status}", program.display()),
        }),
        (false, words) => Err(BubblewrapError::Refused {
            words: words.to_owned(),
        }),
    }
}

fn ends_in_time(pid: u32) -> bool {
    Pid::from_raw(pid.cast_signed())
        .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok())
        .is_some_and(|pidfd| {
            let patience = Timespec {
                tv_sec: BUBBLEWRAP_PATIENCE.as_secs().cast_signed(),
                tv_nsec: 0,
            };
            let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&patience)).is_ok_and(|ready| ready > 0)
        })
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program(script: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("bwrap");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("the folder is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        (dir, path)
    }

    fn refusal(script: &str) -> Option<String> {
        let (_dir, path) = program(script);
        try_bubblewrap(&path).err().map(|error| error.to_string())
    }

    #[test]
    fn a_bwrap_that_may_not_work_is_refused_in_its_own_words() {
        let words = "bwrap: No permissions to create new namespace";
        let script = format!("echo '{words}' >&2; exit 1");
        assert_eq!(refusal(&script).as_deref(), Some(words));
        let silent = refusal("exit 3").expect("it failed");
        assert!(silent.ends_with("exit status: 3"), "{silent}");
        assert_eq!(refusal("exit 0"), None);
    }

    #[test]
    fn what_a_probe_lacks_it_explains() {
        let found = probe();
        assert_eq!(
            found.bubblewrap.is_none(),
            found.bubblewrap_refusal.is_some()
        );
        assert_eq!(found.userns, found.userns_refusal.is_none());
    }
}
