//! Signals as a descriptor that can be polled.

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// The highest signal number of Linux.
pub(crate) const MAX_SIGNAL: i32 = 64;

/// A descriptor from which blocked signals are read.
#[derive(Debug)]
pub(crate) struct SignalFd(File);

impl SignalFd {
    /// Blocks `signals` for this thread and makes them readable.
    #[expect(unsafe_code, reason = "no safe wrapper for signalfd")]
    pub(crate) fn new(signals: &[i32]) -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set that the other calls use; every pointer is to
        // a live local; a descriptor that signalfd returns belongs to nobody else.
        let fd = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals {
                check(libc::sigaddset(set.as_mut_ptr(), *signal))?;
            }
            let unused = std::ptr::null_mut();
            check(libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), unused))?;
            let flags = libc::SFD_NONBLOCK | libc::SFD_CLOEXEC;
            OwnedFd::from_raw_fd(check(libc::signalfd(-1, set.as_ptr(), flags))?)
        };
        Ok(Self(File::from(fd)))
    }

    /// The numbers of the signals that have arrived.
    pub(crate) fn take(&self) -> io::Result<Vec<i32>> {
        const RECORD: usize = size_of::<libc::signalfd_siginfo>();
        let mut found = Vec::new();
        let mut buffer = [0_u8; 8 * RECORD];
        loop {
            match (&self.0).read(&mut buffer) {
                Ok(0) => return Ok(found),
                Ok(count) => found.extend(buffer[..count].chunks_exact(RECORD).map(|record| {
                    // ssi_signo is the first field, a u32.
                    i32::from_ne_bytes([record[0], record[1], record[2], record[3]])
                })),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(found),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Makes this process deaf to `signals`.
#[expect(unsafe_code, reason = "no safe wrapper for signal dispositions")]
pub(crate) fn ignore(signals: &[i32]) {
    for signal in signals {
        // SAFETY: SIG_IGN runs no code of ours. It fails only for signals that cannot be ignored.
        unsafe { libc::signal(*signal, libc::SIG_IGN) };
    }
}

/// Gives every signal its default meaning and unblocks all: what a command expects to find.
///
/// Makes only async-signal-safe calls.
#[expect(unsafe_code, reason = "no safe wrapper for signal dispositions")]
pub(crate) fn reset_all() {
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: SIG_DFL runs no code of ours; the set is initialised by sigemptyset before use.
    // Failures are those of signals whose disposition cannot change.
    unsafe {
        for signal in 1..=MAX_SIGNAL {
            libc::signal(signal, libc::SIG_DFL);
        }
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

pub(super) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
