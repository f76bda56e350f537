//! Reading a log, also while it is being written and rotated.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::{LogError, LogItem, LogRecord, MAX_HEADER_BYTES};
use crate::durable::FileError;
use crate::spec::MAX_LINE_BYTES;

/// Bytes per read: a few hundred ordinary lines.
const READ_BYTES: usize = 64 << 10;
/// A line longer than this is not a record.
const MAX_RECORD_BYTES: usize = MAX_LINE_BYTES as usize + MAX_HEADER_BYTES + 1;

/// A cursor into the log of one incarnation.
///
/// As an iterator it yields `None` when it has caught up with the shim; asked again later, it goes
/// on with what was written since.
#[derive(Debug)]
pub struct LogReader {
    dir: PathBuf,
    /// The next record to hand out.
    next_seq: u64,
    segment: Option<Segment>,
    /// A record that was read but follows a gap that must be told first.
    held: Option<LogRecord>,
}

#[derive(Debug)]
struct Segment {
    first_seq: u64,
    path: PathBuf,
    file: File,
    /// Bytes that were read and not handed out: `buffer[start..]`.
    buffer: Vec<u8>,
    start: usize,
}

impl LogReader {
    /// A reader of the records after `after_seq` (0: from the beginning) of the incarnation
    /// folder `dir`. A log that does not exist yet is empty.
    ///
    /// # Errors
    /// When the log exists but cannot be read.
    pub fn open(dir: &Path, after_seq: u64) -> Result<Self, LogError> {
        let mut reader = Self {
            dir: dir.join(crate::LOG_DIR),
            next_seq: after_seq.saturating_add(1),
            segment: None,
            held: None,
        };
        reader.enter_segment()?;
        Ok(reader)
    }

    /// A reader of the last `count` records, and of those that will follow. Older records that
    /// were rotated away are not reported as a gap.
    ///
    /// # Errors
    /// When the log exists but cannot be read.
    pub fn tail(dir: &Path, count: u64) -> Result<Self, LogError> {
        let log = dir.join(crate::LOG_DIR);
        let first = super::segments(&log)?.first().copied().unwrap_or(1);
        let last = last_seq(&log)?;
        Self::open(dir, last.saturating_sub(count).max(first - 1))
    }

    /// The last record handed out, or skipped as a gap: the cursor to come back with.
    pub fn cursor(&self) -> u64 {
        self.next_seq - 1
    }

    fn step(&mut self) -> Result<Option<LogItem>, LogError> {
        if let Some(record) = self.held.take() {
            self.next_seq = record.seq + 1;
            return Ok(Some(LogItem::Record(record)));
        }
        loop {
            let Some(segment) = &mut self.segment else {
                if !self.enter_segment()? {
                    return Ok(None);
                }
                continue;
            };
            if let Some(record) = segment.next_record(self.next_seq)? {
                return Ok(Some(self.hand_out(record)));
            }
            if !self.leave_segment()? {
                return Ok(None);
            }
        }
    }

    fn hand_out(&mut self, record: LogRecord) -> LogItem {
        if record.seq > self.next_seq {
            let gap = LogItem::Gap {
                first_seq: self.next_seq,
                last_seq: record.seq - 1,
            };
            self.next_seq = record.seq;
            self.held = Some(record);
            return gap;
        }
        self.next_seq = record.seq + 1;
        LogItem::Record(record)
    }

    /// Opens the segment that holds `next_seq`, or the first after it.
    fn enter_segment(&mut self) -> Result<bool, LogError> {
        let segments = super::segments(&self.dir)?;
        let holding = segments.partition_point(|first| *first <= self.next_seq);
        for first_seq in &segments[holding.saturating_sub(1)..] {
            if let Some(segment) = Segment::open(&self.dir, *first_seq)? {
                self.segment = Some(segment);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves on to the segment after the current one; false when there is none.
    fn leave_segment(&mut self) -> Result<bool, LogError> {
        let Some(current) = &mut self.segment else {
            return Ok(false);
        };
        let later: Vec<u64> = super::segments(&self.dir)?
            .into_iter()
            .filter(|first| *first > current.first_seq)
            .collect();
        if later.is_empty() {
            return Ok(false);
        }
        // What was appended between the last read and the listing still counts.
        if current.fill()? {
            return Ok(true);
        }
        for first_seq in later {
            if let Some(segment) = Segment::open(&self.dir, first_seq)? {
                self.segment = Some(segment);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Iterator for LogReader {
    type Item = Result<LogItem, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

impl Segment {
    /// `None` when rotation has removed it.
    fn open(dir: &Path, first_seq: u64) -> Result<Option<Self>, FileError> {
        let path = dir.join(super::segment_name(first_seq));
        match File::open(&path) {
            Ok(file) => Ok(Some(Self {
                first_seq,
                path,
                file,
                buffer: Vec::new(),
                start: 0,
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FileError::io("open", &path)(source)),
        }
    }

    /// The next whole record numbered `from_seq` or more; `None` at the end of what is written.
    fn next_record(&mut self, from_seq: u64) -> Result<Option<LogRecord>, LogError> {
        let mut searched = 0;
        loop {
            let pending = &self.buffer[self.start..];
            let newline = pending[searched..].iter().position(|byte| *byte == b'\n');
            let Some(end) = newline.map(|at| at + searched) else {
                searched = pending.len();
                if searched > MAX_RECORD_BYTES {
                    return Err(LogError::NotALog {
                        path: self.path.clone(),
                    });
                }
                if !self.fill()? {
                    return Ok(None);
                }
                continue;
            };
            searched = 0;
            let line = &pending[..end];
            // Lines that are no record are the trace of a crash; the hole in the numbers tells.
            let wanted = super::decode_seq(line).is_some_and(|seq| seq >= from_seq);
            let record = if wanted { super::decode(line) } else { None };
            self.start += end + 1;
            if record.is_some() {
                return Ok(record);
            }
        }
    }

    /// Reads more; false at the end of the file.
    fn fill(&mut self) -> Result<bool, FileError> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let filled = self.buffer.len();
        self.buffer.resize(filled + READ_BYTES, 0);
        let read = loop {
            match self.file.read(&mut self.buffer[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let count = *read.as_ref().unwrap_or(&0);
        self.buffer.truncate(filled + count);
        read.map(|count| count > 0)
            .map_err(FileError::io("read", &self.path))
    }
}

/// The number of the last whole record; 0 in an empty log.
fn last_seq(log: &Path) -> Result<u64, LogError> {
    // The newest segment may have been opened and not yet written to.
    for first_seq in super::segments(log)?.into_iter().rev() {
        if let Some(mut segment) = Segment::open(log, first_seq)?
            && let Some(seq) = segment.last_seq()?
        {
            return Ok(seq);
        }
    }
    Ok(0)
}

impl Segment {
    fn last_seq(&mut self) -> Result<Option<u64>, LogError> {
        let length = self
            .file
            .seek(SeekFrom::End(0))
            .map_err(FileError::io("read", &self.path))?;
        let mut window = READ_BYTES as u64;
        loop {
            let from = length.saturating_sub(window);
            let tail = self.read_range(from, length - from)?;
            let whole = match tail.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => &tail[..end],
                None => &[],
            };
            let starts_inside = usize::from(from > 0);
            let last = whole
                .split(|byte| *byte == b'\n')
                .skip(starts_inside)
                .filter_map(super::decode_seq)
                .last();
            if last.is_some() || from == 0 {
                return Ok(last);
            }
            window *= 8;
        }
    }

    fn read_range(&mut self, from: u64, bytes: u64) -> Result<Vec<u8>, FileError> {
        let mut read = || -> io::Result<Vec<u8>> {
            self.file.seek(SeekFrom::Start(from))?;
            let mut found = Vec::new();
            (&self.file).take(bytes).read_to_end(&mut found)?;
            Ok(found)
        };
        read().map_err(FileError::io("read", &self.path))
    }
}
