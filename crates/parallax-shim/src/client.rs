//! The way to a running shim.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::wire::{self, Hello, Reply, Request, WIRE_VERSION};

/// Longest line that a shim sends: an exit record with its last log line, escaped.
const MAX_REPLY_BYTES: u64 = 64 << 10;

/// Why a shim could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers on the socket: the shim has ended, or never started. The folder's records
    /// say which ([`crate::adopt::inspect`]).
    #[error("no shim answers in {dir}")]
    Connect {
        /// The incarnation folder.
        dir: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The connection broke, or the answer did not come in time.
    #[error("the shim did not answer")]
    Io(#[from] io::Error),
    /// The shim closed the connection: the replica has ended.
    #[error("the shim has closed the connection")]
    Closed,
    /// The answer is not one of [`crate::wire`].
    #[error("the shim's answer makes no sense to this build")]
    Json(#[from] serde_json::Error),
}

/// Connects to the shim of an incarnation folder and shows it the folder's token.
///
/// The path of `dir` may be longer than the 108 bytes that a socket address holds. The connection
/// is ready for a [`Request`]; it blocks (an async host calls `set_nonblocking`).
///
/// # Errors
/// When no shim listens, or the folder's token cannot be read.
pub fn connect(dir: &Path) -> Result<UnixStream, ClientError> {
    connect_io(dir).map_err(|source| ClientError::Connect {
        dir: dir.to_path_buf(),
        source,
    })
}

fn connect_io(dir: &Path) -> io::Result<UnixStream> {
    let folder = File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(dir)?;
    let through = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    let mut stream = UnixStream::connect(through.join(crate::SOCKET_FILE))?;
    let token = std::fs::read_to_string(through.join(crate::TOKEN_FILE))?;
    let hello = Hello {
        version: WIRE_VERSION,
        token: token.trim_end().to_owned(),
    };
    // Far below a socket's buffer: this cannot block.
    match stream.write_all(&wire::to_line(&hello)?) {
        // It has hung up on a client too many, and its reason is there to be read.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(stream),
        result => result.map(|()| stream),
    }
}

/// A blocking connection, one request at a time.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects; `timeout` bounds every later read and write.
    ///
    /// # Errors
    /// As [`connect`].
    pub fn connect(dir: &Path, timeout: Duration) -> Result<Self, ClientError> {
        let stream = connect(dir)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// When the connection breaks or the timeout passes.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, ClientError> {
        self.send(request)?;
        self.receive()
    }

    /// Sends a request without waiting; for [`Request::Watch`], whose answers are events.
    ///
    /// # Errors
    /// When the connection breaks or the timeout passes.
    pub fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        self.stream.get_mut().write_all(&wire::to_line(request)?)?;
        Ok(())
    }

    /// The next line: a [`Reply`] or an [`wire::Event`].
    ///
    /// # Errors
    /// When the connection breaks, the timeout passes, or the line is neither.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<T, ClientError> {
        let mut line = Vec::new();
        self.stream
            .by_ref()
            .take(MAX_REPLY_BYTES)
            .read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Err(ClientError::Closed);
        }
        Ok(serde_json::from_slice(&line)?)
    }
}
