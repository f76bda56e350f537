//! The log of one incarnation: written by its shim alone, read by anybody who may read the folder.
//!
//! `DIR/log/<first seq, 20 digits>.log` are the segments. Each line of a segment is one record:
//! `<seq> <unix_us> <o|e|s> <F|P> <bytes>\n`. Numbers count from 1 without holes, so a hole that a
//! reader meets is one that rotation made. A last line without newline is a record that is still
//! being written, or was when the machine stopped: readers wait behind it.

mod reader;
mod writer;

use std::path::PathBuf;

use crate::durable::FileError;

pub use reader::LogReader;
pub(crate) use writer::{LogWriter, now_unix_us};

/// One line of a replica's output, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Counts from 1 in each incarnation.
    pub seq: u64,
    /// When the shim read it, microseconds since 1970.
    pub time_unix_us: u64,
    /// Where it came from.
    pub stream: Stream,
    /// Whether the line goes on in the next record of the same stream.
    pub partial: bool,
    /// The bytes, without the newline; any bytes, not always UTF-8.
    pub line: Vec<u8>,
}

/// Where a record came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The replica's standard output.
    Out,
    /// The replica's standard error.
    Err,
    /// The shim itself.
    System,
}

/// What a reader meets next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogItem {
    /// A record.
    Record(LogRecord),
    /// Records that are not there any more: rotated away, or damaged by a crash of the machine.
    Gap {
        /// The first missing record.
        first_seq: u64,
        /// The last missing record.
        last_seq: u64,
    },
}

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// A segment holds a line that no shim writes; this is not a log.
    #[error("{path} is not a log segment: a line is longer than any record")]
    NotALog {
        /// The segment.
        path: PathBuf,
    },
}

impl Stream {
    fn code(self) -> u8 {
        match self {
            Self::Out => b'o',
            Self::Err => b'e',
            Self::System => b's',
        }
    }

    fn from_code(code: &[u8]) -> Option<Self> {
        match code {
            b"o" => Some(Self::Out),
            b"e" => Some(Self::Err),
            b"s" => Some(Self::System),
            _ => None,
        }
    }
}

/// Longest part of an encoded record before its bytes: two 20-digit numbers, two letters, spaces.
const MAX_HEADER_BYTES: usize = 20 + 1 + 20 + 1 + 1 + 1 + 1 + 1;

fn encode(out: &mut Vec<u8>, seq: u64, time: u64, stream: Stream, partial: bool, line: [&[u8]; 2]) {
    use std::io::Write;
    write!(out, "{seq} {time} ").expect("writing to memory does not fail");
    out.push(stream.code());
    out.extend_from_slice(if partial { b" P " } else { b" F " });
    out.extend_from_slice(line[0]);
    out.extend_from_slice(line[1]);
    out.push(b'\n');
}

/// `None` for a line that is not a record.
fn decode(line: &[u8]) -> Option<LogRecord> {
    let mut parts = line.splitn(5, |byte| *byte == b' ');
    let mut number = || -> Option<u64> { std::str::from_utf8(parts.next()?).ok()?.parse().ok() };
    let seq = number()?;
    let time_unix_us = number()?;
    let stream = Stream::from_code(parts.next()?)?;
    let partial = match parts.next()? {
        b"F" => false,
        b"P" => true,
        _ => return None,
    };
    Some(LogRecord {
        seq,
        time_unix_us,
        stream,
        partial,
        line: parts.next()?.to_vec(),
    })
}

/// The number of a record, without decoding the rest.
fn decode_seq(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| *byte == b' ')?;
    std::str::from_utf8(&line[..end]).ok()?.parse().ok()
}

fn segment_name(first_seq: u64) -> String {
    format!("{first_seq:020}.log")
}

/// The first sequence numbers of the segments in a log folder, ascending.
fn segments(dir: &std::path::Path) -> Result<Vec<u64>, FileError> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(source) => return Err(FileError::io("list", dir)(source)),
    };
    for entry in entries {
        let name = entry.map_err(FileError::io("list", dir))?.file_name();
        let number: Option<u64> = name
            .to_str()
            .and_then(|name| name.strip_suffix(".log"))
            .filter(|number| number.len() == 20)
            .and_then(|number| number.parse().ok());
        found.extend(number);
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests;
