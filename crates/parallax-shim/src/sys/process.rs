//! Making, replacing and accounting for processes.

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use super::signals::check;

/// Strings in the form that `execve` takes. Made before the fork, because a forked child of a
/// threaded process must not allocate.
#[derive(Debug)]
pub(crate) struct CStringArray {
    /// Owns what `pointers` point to.
    _strings: Vec<CString>,
    /// Ends with a null pointer.
    pointers: Vec<*const c_char>,
}

impl CStringArray {
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let pointers = strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([ptr::null()])
            .collect();
        Self {
            _strings: strings,
            pointers,
        }
    }
}

/// Forks; the child runs `child` and exits with what it returns.
///
/// # Safety
/// When the calling process has more than one thread, `child` may only make async-signal-safe
/// calls: no allocation, no locks, no panics.
#[expect(unsafe_code, reason = "fork has no safe wrapper")]
pub(crate) unsafe fn fork(child: impl FnOnce() -> u8) -> io::Result<rustix::process::Pid> {
    // SAFETY: the caller vouches for what runs between here and _exit.
    let pid = check(unsafe { libc::fork() })?;
    match rustix::process::Pid::from_raw(pid) {
        Some(pid) => Ok(pid),
        None => {
            let code = child();
            // SAFETY: ends this process at once; no destructor of the parent's objects may run.
            unsafe { libc::_exit(i32::from(code)) }
        }
    }
}

/// Replaces this process; comes back only on failure, with its errno.
///
/// Makes only async-signal-safe calls.
#[expect(unsafe_code, reason = "execve has no safe wrapper")]
pub(crate) fn exec(program: &CStr, argv: &CStringArray, env: &CStringArray) -> rustix::io::Errno {
    // SAFETY: both arrays end with null, and their strings live as long as they do.
    unsafe {
        libc::execve(
            program.as_ptr(),
            argv.pointers.as_ptr(),
            env.pointers.as_ptr(),
        );
        rustix::io::Errno::from_raw_os_error(*libc::__errno_location())
    }
}

/// Closes every descriptor above standard error.
///
/// # Safety
/// Nothing in this process may own one of them.
#[expect(unsafe_code, reason = "closes descriptors that nobody passed in")]
pub(crate) unsafe fn close_inherited() -> io::Result<()> {
    // SAFETY: the caller vouches that they are nobody's.
    check(unsafe { libc::close_range(3, u32::MAX, 0) }).map(drop)
}

/// Marks every descriptor above standard error to be closed by `execve`.
///
/// Makes only async-signal-safe calls.
#[expect(unsafe_code, reason = "close_range has no safe wrapper")]
pub(crate) fn close_on_exec() -> io::Result<()> {
    // SAFETY: closes nothing by itself.
    let flags = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
    check(unsafe { libc::close_range(3, u32::MAX, flags) }).map(drop)
}

/// What all reaped children have used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) cpu_ns: u64,
    pub(crate) max_rss_bytes: u64,
}

/// The usage of the children that this process has waited for, and of theirs.
#[expect(unsafe_code, reason = "getrusage has no safe wrapper")]
pub(crate) fn children_usage() -> io::Result<Usage> {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: getrusage fills the struct when it succeeds, and only then is it read.
    let usage = unsafe {
        check(libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()))?;
        usage.assume_init()
    };
    let nanoseconds = |time: libc::timeval| {
        time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_usec.cast_unsigned() * 1_000
    };
    Ok(Usage {
        cpu_ns: nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime),
        max_rss_bytes: usage.ru_maxrss.cast_unsigned() * 1024,
    })
}
