use std::path::Path;

use super::*;
use crate::spec::LogLimits;

const LIMITS: LogLimits = LogLimits {
    segment_bytes: 4096,
    keep_segments: 3,
    max_line_bytes: 256,
};

fn writer(dir: &Path, limits: LogLimits) -> LogWriter {
    LogWriter::create(dir, limits).expect("a writable folder")
}

fn items(dir: &Path, after_seq: u64) -> Vec<LogItem> {
    LogReader::open(dir, after_seq)
        .expect("a readable log")
        .map(|item| item.expect("a readable log"))
        .collect()
}

/// Number, stream, partial and bytes of every record.
fn records(dir: &Path) -> Vec<(u64, Stream, bool, Vec<u8>)> {
    items(dir, 0)
        .into_iter()
        .map(|item| match item {
            LogItem::Record(it) => (it.seq, it.stream, it.partial, it.line),
            LogItem::Gap { .. } => panic!("no gap is expected"),
        })
        .collect()
}

#[test]
fn any_bytes_come_back_as_they_were() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut log = writer(dir.path(), LIMITS);
    log.output(Stream::Out, b"\n \x00\xff 1 2 o F x\r\n");
    log.output(Stream::Err, b"e\n");
    log.system("two\nlines");
    log.flush();
    let expected = [
        (1, Stream::Out, false, b"".to_vec()),
        (2, Stream::Out, false, b" \x00\xff 1 2 o F x\r".to_vec()),
        (3, Stream::Err, false, b"e".to_vec()),
        (4, Stream::System, false, b"two lines".to_vec()),
    ];
    assert_eq!(records(dir.path()), expected);
}

#[test]
fn a_long_line_is_split_wherever_its_pieces_end() {
    for piece in [1, 7, 255, 256, 257, 600] {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut log = writer(dir.path(), LIMITS);
        let line = vec![b'x'; 600];
        for piece in line.chunks(piece) {
            log.output(Stream::Out, piece);
        }
        log.output(Stream::Out, b"\nnext\n");
        log.flush();
        let found = records(dir.path());
        let parts: Vec<(bool, usize)> = found.iter().map(|it| (it.2, it.3.len())).collect();
        assert_eq!(
            parts,
            [(true, 256), (true, 256), (false, 88), (false, 4)],
            "pieces of {piece}"
        );
    }
}

#[test]
fn a_split_line_that_ends_with_the_child_is_ended() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut log = writer(dir.path(), LIMITS);
    log.output(Stream::Out, b"prompt> ");
    log.split_unfinished();
    log.finish_lines();
    log.finish_lines();
    log.flush();
    let parts: Vec<(bool, Vec<u8>)> = records(dir.path())
        .into_iter()
        .map(|it| (it.2, it.3))
        .collect();
    assert_eq!(parts, [(true, b"prompt> ".to_vec()), (false, Vec::new())]);
    assert_eq!(log.last_line(), "prompt> ");
}

#[test]
fn a_reader_that_was_left_behind_by_rotation_is_told_which_records_it_missed() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut log = writer(dir.path(), LIMITS);
    log.output(Stream::Out, b"first\n");
    log.flush();
    let mut reader = LogReader::open(dir.path(), 0).expect("a readable log");
    assert!(matches!(reader.next(), Some(Ok(LogItem::Record(_)))));
    assert!(reader.next().is_none());
    assert_eq!(reader.cursor(), 1);
    for number in 2..=2000 {
        log.output(Stream::Out, format!("{number}\n").as_bytes());
    }
    log.flush();
    let rest: Vec<LogItem> = reader
        .by_ref()
        .map(|item| item.expect("a readable log"))
        .collect();
    // The segment that it holds open can still be read to its end.
    let mut expected_seq = 2;
    let mut gaps = 0;
    for item in rest {
        match item {
            LogItem::Record(record) => {
                assert_eq!(record.seq, expected_seq);
                assert_eq!(record.line, expected_seq.to_string().as_bytes());
                expected_seq += 1;
            }
            LogItem::Gap {
                first_seq,
                last_seq,
            } => {
                assert_eq!(first_seq, expected_seq);
                expected_seq = last_seq + 1;
                gaps += 1;
            }
        }
    }
    assert_eq!((expected_seq, gaps), (2001, 1));
    assert_eq!(reader.cursor(), 2000);
}

#[test]
fn a_reader_can_start_at_every_record() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let limits = LogLimits {
        keep_segments: 100,
        ..LIMITS
    };
    let mut log = writer(dir.path(), limits);
    for number in 1..=500 {
        log.output(Stream::Out, format!("{number}\n").as_bytes());
    }
    log.flush();
    for after in 0..=501 {
        let first = items(dir.path(), after).into_iter().next();
        let expected = (after < 500).then(|| (after + 1).to_string().into_bytes());
        let found = first.map(|item| match item {
            LogItem::Record(record) => record.line,
            LogItem::Gap { .. } => panic!("no gap is expected"),
        });
        assert_eq!(found, expected, "after {after}");
    }
}

#[test]
fn a_tail_is_found_behind_a_long_record_and_in_an_empty_log() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let tail = |count| -> Vec<u64> {
        LogReader::tail(dir.path(), count)
            .expect("a readable log")
            .map(|item| match item.expect("a readable log") {
                LogItem::Record(record) => record.seq,
                LogItem::Gap { .. } => panic!("a tail has no gap"),
            })
            .collect()
    };
    assert_eq!(tail(5), [0; 0]);
    let limits = LogLimits {
        segment_bytes: 4 << 20,
        keep_segments: 2,
        max_line_bytes: 1 << 20,
    };
    let mut log = writer(dir.path(), limits);
    assert_eq!(tail(5), [0; 0]);
    log.output(Stream::Out, b"short\n");
    log.output(Stream::Out, &vec![b'x'; 900 << 10]);
    log.output(Stream::Out, b"\n");
    log.flush();
    assert_eq!(tail(1), [2]);
    assert_eq!(tail(5), [1, 2]);
    assert_eq!(tail(0), [0; 0]);
}

#[test]
fn a_reader_waits_behind_a_record_that_is_still_being_written() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    drop(writer(dir.path(), LIMITS));
    let segment = dir.path().join(crate::LOG_DIR).join(segment_name(1));
    std::fs::write(&segment, "1 5 o F one\n2 6 o F tw").expect("a writable log");
    let mut reader = LogReader::open(dir.path(), 0).expect("a readable log");
    assert!(matches!(reader.next(), Some(Ok(LogItem::Record(_)))));
    assert!(reader.next().is_none());
    std::fs::write(&segment, "1 5 o F one\n2 6 o F two\n").expect("a writable log");
    let expected = LogRecord {
        seq: 2,
        time_unix_us: 6,
        stream: Stream::Out,
        partial: false,
        line: b"two".to_vec(),
    };
    let found = reader.next().map(|item| item.expect("a readable log"));
    assert_eq!(found, Some(LogItem::Record(expected)));
}

#[test]
fn damage_in_the_middle_is_told_as_a_gap() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    drop(writer(dir.path(), LIMITS));
    let segment = dir.path().join(crate::LOG_DIR).join(segment_name(1));
    std::fs::write(&segment, b"1 5 o F one\n2 6 o\x00\x00\x00\n3 7 e F three\n")
        .expect("a writable log");
    let found = items(dir.path(), 0);
    let gap = LogItem::Gap {
        first_seq: 2,
        last_seq: 2,
    };
    assert_eq!((found.len(), &found[1]), (3, &gap));
}

#[test]
fn the_last_line_is_cut_at_a_kibibyte_of_text() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let limits = LogLimits {
        max_line_bytes: 4096,
        ..LIMITS
    };
    let mut log = writer(dir.path(), limits);
    log.output(Stream::Out, &[b'\xff'; 2000]);
    log.output(Stream::Out, b"\n \n");
    assert_eq!(log.last_line(), "\u{fffd}".repeat(341));
}
