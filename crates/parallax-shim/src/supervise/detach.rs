//! The first moments of a shim: it becomes the one of its folder, and leaves its host behind.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::ShimError;
use crate::durable::FileError;
use crate::sys;

/// How long a shim tries to lock its folder. Inspections hold the lock for microseconds each, and
/// are repeated every few milliseconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries: shorter than anybody's pause between two inspections.
const LOCK_POLL: Duration = Duration::from_micros(500);

/// Leaves the host's session, descriptors and folder behind. The returned file holds the lock that
/// keeps a second shim out.
pub(super) fn detach(dir: &Path) -> Result<File, ShimError> {
    // SAFETY: the shim has opened nothing yet, and its caller was told (`crate::main`).
    #[expect(unsafe_code, reason = "descriptors of the host must not stay open")]
    unsafe { sys::process::close_inherited() }
        .map_err(ShimError::system("close inherited descriptors"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    std::env::set_current_dir(dir).map_err(FileError::io("enter", dir))?;
    let lock = take(dir)?;
    if was_started() {
        return Err(ShimError::StartedBefore(dir.to_path_buf()));
    }
    redirect_standard_streams()?;
    // A process group leader already has what a session is for: a host that makes groups is fine.
    match rustix::process::setsid() {
        Ok(_) | Err(rustix::io::Errno::PERM) => {}
        Err(error) => return Err(ShimError::system("open a session")(error)),
    }
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(ShimError::system("adopt the orphans of the replica"))?;
    sys::signals::ignore(&[
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGPIPE,
        libc::SIGXFSZ,
        libc::SIGTSTP,
        libc::SIGTTOU,
        libc::SIGTTIN,
    ]);
    Ok(lock)
}

/// Takes the working directory for this shim: locks its spec. Somebody who inspects the folder just
/// now holds the lock for an instant; somebody who gives it up takes the spec away.
fn take(dir: &Path) -> Result<File, ShimError> {
    let spec = Path::new(crate::SPEC_FILE);
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        let lock = match File::open(spec) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ShimError::NoSpec(dir.to_path_buf()));
            }
            Err(source) => return Err(FileError::io("open", spec)(source).into()),
        };
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if is_at(&lock, spec)? => return Ok(lock),
            // It was taken away before the lock was: the next look finds none.
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) if was_started() || Instant::now() >= deadline => {
                return Err(ShimError::Locked(dir.to_path_buf()));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_POLL),
            Err(error) => return Err(ShimError::system("lock spec.json")(error)),
        }
    }
}

/// Whether `file` is what `path` names now.
fn is_at(file: &File, path: &Path) -> Result<bool, ShimError> {
    let failed = ShimError::system;
    let own = rustix::fs::fstat(file).map_err(failed("identify spec.json"))?;
    match rustix::fs::stat(path) {
        Ok(named) => Ok((named.st_dev, named.st_ino) == (own.st_dev, own.st_ino)),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(failed("identify spec.json")(error)),
    }
}

/// Whether a shim has started something in the working directory.
fn was_started() -> bool {
    [crate::STATE_FILE, crate::EXIT_FILE]
        .iter()
        .any(|file| Path::new(file).exists())
}

/// The host's terminal and pipes must not be kept open by a shim that outlives it.
fn redirect_standard_streams() -> Result<(), ShimError> {
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(ShimError::system("open /dev/null"))?;
    let errors = File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(crate::STDERR_FILE)
        .map_err(FileError::io("create", Path::new(crate::STDERR_FILE)))?;
    let redirect = || -> rustix::io::Result<()> {
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&errors)
    };
    redirect().map_err(ShimError::system("redirect the standard streams"))
}
