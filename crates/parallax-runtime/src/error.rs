//! Why a host cannot do its work.

use std::io;
use std::path::{Path, PathBuf};

use parallax_shim::durable::FileError;

/// Why a host could not start, or could not carry out a step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The machine is of a kind on which agents cannot be run.
    #[error("a host needs Linux; on this machine only client commands work")]
    UnsupportedSystem,
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried: "open", "create", ….
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A record in the host's folder could not be read or written.
    #[error("the host's records are not usable")]
    Record(#[from] FileError),
    /// A log cannot be read.
    #[error("a log cannot be read")]
    Log(#[from] parallax_shim::log::LogError),
    /// A cgroup could not be made.
    #[error("the limits cannot be enforced")]
    Cgroup(#[from] parallax_shim::cgroup::CgroupError),
    /// What a shim has left cannot be judged or cleared away.
    #[error("a shim's remains cannot be dealt with")]
    Adopt(#[from] parallax_shim::adopt::AdoptError),
    /// Another host works in the same folder.
    #[error(
        "another host is using {data_dir}; stop it first, or give this one a folder of its own"
    )]
    InUse {
        /// The folder.
        data_dir: PathBuf,
    },
    /// A folder that must stay hidden lies inside one that every agent may read.
    #[error(
        "{path} cannot be protected: it lies in {readable}, which agents may read; move it elsewhere"
    )]
    CannotProtect {
        /// What must stay hidden.
        path: PathBuf,
        /// What agents may read.
        readable: PathBuf,
    },
    /// A means of isolation was asked for that this machine does not have.
    #[error("agents cannot be kept apart by {means} here: {why}")]
    MeansUnavailable {
        /// What was asked for.
        means: parallax_core::host::IsolationMeans,
        /// Why it does not work, in the words of the system where it has some.
        why: String,
    },
    /// The address of the control plane makes no sense.
    #[error(
        "`{url}` is no address of a control plane; write http://HOST:PORT or https://HOST:PORT"
    )]
    ServerUrl {
        /// What was given.
        url: String,
        /// The reason.
        #[source]
        source: tonic::transport::Error,
    },
    /// The host has no credential, and will get none with this token.
    #[error(
        "the control plane refuses the join token: {0}; print a new one with `parallax hosts token`"
    )]
    JoinRefused(String),
    /// Two hosts use one credential, and this one was there first.
    #[error(
        "another host uses the credential in {credential} and has taken this host's place; a \
         credential is good for one host: print a token with `parallax hosts token` and join with \
         it from a data directory of its own"
    )]
    Superseded {
        /// Where this host keeps the credential.
        credential: PathBuf,
    },
    /// A background thread ended before its work was done.
    #[error("the host is shutting down")]
    ShuttingDown,
}

impl HostError {
    /// Wraps an I/O failure: `result.map_err(HostError::io("open", path))`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// Whether the disk (or the quota) is full.
    pub(crate) fn is_storage_full(&self) -> bool {
        let mut error: &dyn std::error::Error = self;
        loop {
            if let Some(io) = error.downcast_ref::<io::Error>() {
                return is_full(io);
            }
            match error.source() {
                Some(source) => error = source,
                None => return false,
            }
        }
    }
}

/// Whether an I/O error means that there is no space left.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        // Transparent wrappers repeat the words of what they wrap.
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

/// Runs file work off the async threads: a disk may take its time.
///
/// # Errors
/// When `work` fails, or the process is shutting down.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HostError> + Send + 'static,
) -> Result<T, HostError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(HostError::ShuttingDown),
        },
    }
}
