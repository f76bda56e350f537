//! A place in the logs of all incarnations of one source. Everything here blocks on files.

use std::path::PathBuf;

use parallax_proto::v1::{LogRecord, LogRequest};
use parallax_shim::log::{self, LogItem, LogReader, Stream};

use crate::error::HostError;
use crate::layout;

/// Records of one batch.
const BATCH_RECORDS: usize = 512;
/// Bytes of lines after which a batch is sent: far below the largest frame.
const BATCH_BYTES: usize = 256 << 10;
/// The most records that `tail` may ask for.
const MAX_TAIL: u64 = 100_000;

/// A place in a log.
#[derive(Debug)]
pub(super) struct Cursor {
    dir: PathBuf,
    incarnation: u64,
    reader: Option<LogReader>,
    /// Whether records before the next one are missing.
    gap: bool,
    /// The newer incarnation that was seen before the current one was read to its end.
    successor: Option<u64>,
}

impl Cursor {
    /// The place that a request names.
    pub(super) fn open(dir: PathBuf, request: &LogRequest) -> Result<Self, HostError> {
        let mut cursor = Self {
            dir,
            incarnation: 0,
            reader: None,
            gap: false,
            successor: None,
        };
        match request.tail {
            Some(count) => cursor.seek_tail(u64::from(count).min(MAX_TAIL))?,
            None => cursor.seek(request.after_incarnation, request.after_seq)?,
        }
        Ok(cursor)
    }

    /// The next records; none when everything that is written has been read.
    pub(super) fn read(&mut self, source_id: &str) -> Result<Vec<LogRecord>, HostError> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
            let next = match &mut self.reader {
                Some(reader) => reader.next().transpose()?,
                None => None,
            };
            match next {
                Some(LogItem::Record(record)) => {
                    bytes += record.line.len();
                    batch.push(self.hand_out(source_id, record));
                }
                Some(LogItem::Gap { .. }) => self.gap = true,
                None => {
                    if !self.move_on()? {
                        break;
                    }
                }
            }
        }
        Ok(batch)
    }

    fn seek(&mut self, incarnation: u64, seq: u64) -> Result<(), HostError> {
        let kept = self.kept()?;
        if kept.contains(&incarnation) {
            return self.enter(incarnation, seq);
        }
        let Some(next) = kept.into_iter().find(|kept| *kept > incarnation) else {
            self.incarnation = incarnation;
            return Ok(());
        };
        // The oldest that is kept was asked for by zeros; otherwise something is missing.
        self.gap = incarnation > 0;
        self.enter(next, 0)
    }

    fn seek_tail(&mut self, count: u64) -> Result<(), HostError> {
        let mut left = count;
        for incarnation in self.kept()?.into_iter().rev() {
            let dir = self.dir.join(incarnation.to_string());
            let reader = LogReader::tail(&dir, left)?;
            let start = reader.cursor();
            let found = reader
                .filter(|item| matches!(item, Ok(LogItem::Record(_))))
                .count();
            self.enter(incarnation, start)?;
            left = left.saturating_sub(found as u64);
            if left == 0 {
                break;
            }
        }
        Ok(())
    }

    fn enter(&mut self, incarnation: u64, after_seq: u64) -> Result<(), HostError> {
        let dir = self.dir.join(incarnation.to_string());
        self.reader = Some(LogReader::open(&dir, after_seq)?);
        self.incarnation = incarnation;
        self.successor = None;
        Ok(())
    }

    /// Goes to the next incarnation once the current one has been read to its end; false when
    /// there is none.
    fn move_on(&mut self) -> Result<bool, HostError> {
        let current = self.incarnation;
        let Some(next) = self.kept()?.into_iter().find(|kept| *kept > current) else {
            return Ok(false);
        };
        if self.reader.is_some() && self.successor != Some(next) {
            // What the current one wrote between the last read and the look counts as well. It has
            // ended before its successor began, so that one more read finds all.
            self.successor = Some(next);
            return Ok(true);
        }
        self.gap |= current > 0 && next > current + 1;
        self.enter(next, 0)?;
        Ok(true)
    }

    fn kept(&self) -> Result<Vec<u64>, HostError> {
        layout::numbered(&self.dir).map_err(HostError::io("list", &self.dir))
    }

    fn hand_out(&mut self, source_id: &str, record: log::LogRecord) -> LogRecord {
        let stream = match record.stream {
            Stream::Out => "stdout",
            Stream::Err => "stderr",
            Stream::System => "system",
        };
        LogRecord {
            source_id: source_id.to_owned(),
            incarnation: self.incarnation,
            seq: record.seq,
            time_unix_us: i64::try_from(record.time_unix_us).unwrap_or(i64::MAX),
            stream: stream.to_owned(),
            line: record.line.into(),
            partial: record.partial,
            gap_before: std::mem::take(&mut self.gap),
        }
    }
}

#[cfg(test)]
mod tests;
