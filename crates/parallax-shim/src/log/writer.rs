//! Writing a log with bounded memory, whatever the child prints and however full the disk is.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Stream, encode, segment_name};
use crate::durable::FileError;
use crate::spec::LogLimits;

/// Encoded bytes after which a batch is written although more input is waiting.
const BATCH_BYTES: usize = 64 << 10;
/// Encoded bytes that are kept while the disk takes none; records beyond are counted and dropped.
const PENDING_BYTES: usize = 128 << 10;
/// Bytes of the last line that end up in the exit record.
const LAST_LINE_BYTES: usize = 1024;

/// The log of the running incarnation.
#[derive(Debug)]
pub(crate) struct LogWriter {
    dir: PathBuf,
    limits: LogLimits,
    file: File,
    segment_len: u64,
    /// First numbers of the segments on disk, the current one last.
    segments: VecDeque<u64>,
    next_seq: u64,
    /// Encoded and not yet written; begins inside a record after a short write.
    pending: Vec<u8>,
    lost: Lost,
    unsynced: bool,
    /// Unfinished lines of standard output and error.
    unfinished: [Vec<u8>; 2],
    /// Whether an unfinished line already has records.
    split: [bool; 2],
    last_line: Vec<u8>,
}

/// Records that the disk did not take.
#[derive(Debug, Default)]
struct Lost {
    records: u64,
    bytes: u64,
    reason: Option<io::Error>,
    rotation_failed: bool,
}

impl LogWriter {
    /// Creates the log of a new incarnation below `dir`.
    pub(crate) fn create(dir: &Path, limits: LogLimits) -> Result<Self, FileError> {
        let dir = dir.join(crate::LOG_DIR);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(FileError::io("create", &dir))?;
        let first = dir.join(segment_name(1));
        let file = create_segment(&first).map_err(FileError::io("create", &first))?;
        Ok(Self {
            dir,
            limits,
            file,
            segment_len: 0,
            segments: VecDeque::from([1]),
            next_seq: 1,
            pending: Vec::new(),
            lost: Lost::default(),
            unsynced: false,
            unfinished: [Vec::new(), Vec::new()],
            split: [false, false],
            last_line: Vec::new(),
        })
    }

    /// The last record that was accepted.
    pub(crate) fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// Takes a piece of the child's output: whole lines become records, the rest waits.
    pub(crate) fn output(&mut self, stream: Stream, mut bytes: &[u8]) {
        let time = now_unix_us();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.line(stream, time, &bytes[..end], true);
            bytes = &bytes[end + 1..];
        }
        if !bytes.is_empty() {
            self.line(stream, time, bytes, false);
        }
    }

    /// Whether a line waits for its end.
    pub(crate) fn has_unfinished(&self) -> bool {
        self.unfinished.iter().any(|line| !line.is_empty())
    }

    /// Writes unfinished lines: a prompt without newline should be seen, and not be lost with the
    /// shim.
    pub(crate) fn split_unfinished(&mut self) {
        let time = now_unix_us();
        for stream in [Stream::Out, Stream::Err] {
            let line = std::mem::take(&mut self.unfinished[stream as usize]);
            if !line.is_empty() {
                self.split[stream as usize] = true;
                self.record(stream, time, true, [&line, &[]]);
            }
        }
    }

    /// Ends the last line of both streams, when the child has closed them.
    pub(crate) fn finish_lines(&mut self) {
        let time = now_unix_us();
        for stream in [Stream::Out, Stream::Err] {
            let index = stream as usize;
            if !self.unfinished[index].is_empty() || self.split[index] {
                self.line(stream, time, &[], true);
            }
        }
    }

    /// Adds a record of the shim's own.
    pub(crate) fn system(&mut self, text: &str) {
        let line = text.replace('\n', " ");
        self.record(Stream::System, now_unix_us(), false, [line.as_bytes(), &[]]);
    }

    /// Hands everything to the operating system. What a full disk does not take stays pending.
    pub(crate) fn flush(&mut self) {
        if self.write_pending() && self.lost.records > 0 {
            let lost = std::mem::take(&mut self.lost);
            let reason = lost
                .reason
                .map_or_else(|| "unknown".to_owned(), |error| error.to_string());
            self.system(&format!(
                "lost {} records ({} bytes) because the log could not be written: {reason}",
                lost.records, lost.bytes
            ));
            self.write_pending();
        }
    }

    /// Whether some output waits for space on the disk, or is known to be lost.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.pending.is_empty() || self.lost.records > 0
    }

    /// Whether there is something that a power cut would take.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// Makes what was written survive a power cut.
    pub(crate) fn sync(&mut self) {
        if !std::mem::take(&mut self.unsynced) {
            return;
        }
        if let Err(error) = self.file.sync_data() {
            // The kernel reports a lost write once and forgets it: the log says so instead.
            self.system(&format!("the log may not survive a power cut: {error}"));
        }
    }

    /// The last line that was not blank, as text of at most 1 KiB.
    pub(crate) fn last_line(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.last_line).into_owned();
        text.truncate(text.floor_char_boundary(LAST_LINE_BYTES));
        text
    }

    /// Adds a piece of a line, in as many records as it needs.
    fn line(&mut self, stream: Stream, time: u64, mut piece: &[u8], ends: bool) {
        let index = stream as usize;
        let limit = self.limits.max_line_bytes as usize;
        let mut before = std::mem::take(&mut self.unfinished[index]);
        while before.len() + piece.len() > limit {
            let (head, tail) = piece.split_at(limit - before.len());
            self.record(stream, time, true, [&before, head]);
            self.split[index] = true;
            before.clear();
            piece = tail;
        }
        if ends {
            self.record(stream, time, false, [&before, piece]);
            self.split[index] = false;
            before.clear();
        } else {
            before.extend_from_slice(piece);
        }
        self.unfinished[index] = before;
    }

    fn record(&mut self, stream: Stream, time: u64, partial: bool, line: [&[u8]; 2]) {
        let bytes = line[0].len() + line[1].len();
        if stream != Stream::System {
            self.remember(line);
        }
        if self.pending.len() + bytes > BATCH_BYTES {
            self.write_pending();
        }
        if !self.pending.is_empty() && self.pending.len() + bytes > PENDING_BYTES {
            self.lost.records += 1;
            self.lost.bytes += bytes as u64;
            return;
        }
        self.rotate_when_full();
        encode(
            &mut self.pending,
            self.next_seq,
            time,
            stream,
            partial,
            line,
        );
        self.next_seq += 1;
    }

    fn remember(&mut self, line: [&[u8]; 2]) {
        if line.iter().all(|part| part.trim_ascii().is_empty()) {
            return;
        }
        self.last_line.clear();
        let head = &line[0][..line[0].len().min(LAST_LINE_BYTES)];
        self.last_line.extend_from_slice(head);
        let rest = LAST_LINE_BYTES - head.len();
        self.last_line
            .extend_from_slice(&line[1][..line[1].len().min(rest)]);
    }

    /// True when nothing is pending any more.
    fn write_pending(&mut self) -> bool {
        let mut written = 0;
        while written < self.pending.len() {
            match self.file.write(&self.pending[written..]) {
                Ok(count) => {
                    written += count;
                    self.unsynced = true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.lost.reason = Some(error);
                    break;
                }
            }
        }
        self.segment_len += written as u64;
        self.pending.drain(..written);
        if self.pending.is_empty() && self.pending.capacity() > 2 * PENDING_BYTES {
            // One record of a very long line should not be paid for until the end.
            self.pending = Vec::new();
        }
        self.pending.is_empty()
    }

    fn rotate_when_full(&mut self) {
        let length = self.segment_len + self.pending.len() as u64;
        if length < self.limits.segment_bytes || !self.write_pending() {
            return;
        }
        self.sync();
        match create_segment(&self.dir.join(segment_name(self.next_seq))) {
            Ok(file) => {
                self.file = file;
                self.segment_len = 0;
                self.lost.rotation_failed = false;
                self.segments.push_back(self.next_seq);
                self.delete_old_segments();
            }
            // Without space for a new segment the old one grows: better than losing output.
            Err(error) => self.rotation_failed("start a new log segment", &error),
        }
    }

    fn delete_old_segments(&mut self) {
        while self.segments.len() > self.limits.keep_segments as usize {
            let Some(oldest) = self.segments.pop_front() else {
                return;
            };
            match fs::remove_file(self.dir.join(segment_name(oldest))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.rotation_failed("delete an old log segment", &error);
                }
                _ => {}
            }
        }
    }

    /// Says it once: the cause may last, and each record would repeat it.
    fn rotation_failed(&mut self, action: &str, error: &io::Error) {
        if !std::mem::replace(&mut self.lost.rotation_failed, true) {
            let text = format!("cannot {action}: {error}");
            let time = now_unix_us();
            let line = [text.as_bytes(), &[]];
            encode(
                &mut self.pending,
                self.next_seq,
                time,
                Stream::System,
                false,
                line,
            );
            self.next_seq += 1;
        }
    }
}

/// Microseconds since 1970; 0 on a machine whose clock is before that.
#[expect(
    clippy::disallowed_methods,
    reason = "the shim is a process of its own, and this is its one clock"
)]
pub(crate) fn now_unix_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| {
            elapsed.as_micros().try_into().unwrap_or(u64::MAX)
        })
}

fn create_segment(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}
