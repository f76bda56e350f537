//! The language of `shim.sock`: one JSON object a line, in both directions.
//!
//! The first line of a client is [`Hello`]; [`crate::client::connect`] has already sent it. Then
//! each [`Request`] gets one [`Reply`]; after [`Request::Watch`] the client only receives
//! [`Event`]s. Nothing here does I/O, so that an async host can use it too.

use serde::{Deserialize, Serialize};

use crate::record::{ExitRecord, StateRecord};

/// The version of this language.
pub const WIRE_VERSION: u32 = 1;
/// Longest line that a shim accepts, bytes with its newline. The longest request is far shorter.
pub const MAX_REQUEST_BYTES: usize = 4096;

/// The first line of a client: proof that it can read the incarnation folder.
///
/// A sandboxed process of the same user can reach the socket (Landlock does not cover sockets with
/// a path), but it cannot read files of the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// [`WIRE_VERSION`].
    pub version: u32,
    /// What [`crate::TOKEN_FILE`] holds.
    pub token: String,
}

/// What a client may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How is the replica? Answered by [`Reply::Status`].
    Status,
    /// SIGTERM to the child's process group, SIGKILL to the tree after the grace. Answered at
    /// once. A later stop may shorten the grace, never lengthen it.
    Stop {
        /// Milliseconds; the spec's when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grace_ms: Option<u64>,
    },
    /// SIGKILL to the tree.
    Kill,
    /// One signal to the child's process group.
    Signal {
        /// Its number, 1 to 64.
        signal: i32,
    },
    /// Turns the connection into a stream of [`Event`]s.
    Watch,
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The request was carried out, or has begun to be.
    Ok {
        /// [`WIRE_VERSION`].
        version: u32,
    },
    /// How the replica is.
    Status(Box<Status>),
    /// The request was not carried out.
    Error(WireError),
}

/// How the replica is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`WIRE_VERSION`].
    pub version: u32,
    /// Running, about to end, or ended.
    pub phase: Phase,
    /// The latest log record; 0 when there is none.
    pub last_seq: u64,
    /// Who runs it; absent when its command could not be started.
    pub state: Option<StateRecord>,
    /// How it ended.
    pub exit: Option<ExitRecord>,
}

/// Where a replica is in its life, as its shim sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The main process runs.
    Running,
    /// It was asked to stop and still runs.
    Stopping,
    /// It has ended and the record is on disk.
    Exited,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireError {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
}

/// Why a request was refused, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The first line was not a valid [`Hello`]. The connection is closed.
    Unauthenticated,
    /// Not a request that this shim knows.
    InvalidRequest,
    /// The line was longer than [`MAX_REQUEST_BYTES`]. The connection is closed.
    TooLong,
    /// Too many clients. The connection is closed.
    Busy,
    /// The operating system refused.
    Failed,
}

/// What a watching client is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// There are log records up to `seq`. Events that a slow client missed are merged into one.
    Log {
        /// The latest record.
        seq: u64,
    },
    /// The replica has ended and the record is on disk; the last event.
    Exit(Box<ExitRecord>),
}

/// One line: JSON and its newline.
///
/// # Errors
/// Never for the types of this module.
pub fn to_line<T: Serialize>(message: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}
