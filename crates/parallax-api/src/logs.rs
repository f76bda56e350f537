//! Logs of replicas and builds.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;

/// What a stream of logs carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LogEntry {
    Line(LogLine),
    /// The lines of a source are out of reach now, which is not the same as none.
    Unavailable {
        source: String,
        message: String,
    },
    /// Why the server ended the stream.
    Problem {
        problem: Box<crate::Problem>,
    },
}

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// The replica or build.
    pub source: String,
    /// The process start of the replica that wrote it.
    pub incarnation: u64,
    /// Counts the records of one incarnation.
    pub seq: u64,
    pub time: Time,
    /// `stdout`, `stderr` or `system`.
    pub stream: String,
    /// Bytes that are no UTF-8 are replaced.
    pub line: String,
    /// The line goes on in the next record.
    #[serde(default)]
    pub partial: bool,
    /// Records before this one were rotated away.
    #[serde(default)]
    pub gap_before: bool,
    /// Go on after this line, in every source: `Last-Event-ID` or `?after=`.
    pub cursor: String,
}
