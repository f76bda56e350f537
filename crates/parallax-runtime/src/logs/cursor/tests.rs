use std::fs;
use std::path::Path;

use super::*;

fn write(dir: &Path, incarnation: u64, seqs: std::ops::RangeInclusive<u64>) {
    let log = dir
        .join(incarnation.to_string())
        .join(parallax_shim::LOG_DIR);
    fs::create_dir_all(&log).expect("a folder can be made");
    let name = format!("{:020}.log", seqs.start());
    let lines: String = seqs
        .map(|seq| format!("{seq} 1 o F line {incarnation}.{seq}\n"))
        .collect();
    fs::write(log.join(name), lines).expect("a file can be written");
}

fn request(after: (u64, u64), tail: Option<u32>) -> LogRequest {
    LogRequest {
        after_incarnation: after.0,
        after_seq: after.1,
        tail,
        ..LogRequest::default()
    }
}

/// The records from a place on, as `incarnation.seq` with `~` where a gap comes before.
fn read(dir: &Path, request: &LogRequest) -> Vec<String> {
    let mut cursor = Cursor::open(dir.to_path_buf(), request).expect("the log is readable");
    let batch = cursor.read("rpl_x").expect("the log is readable");
    let place = |it: &LogRecord| {
        let gap = if it.gap_before { "~" } else { "" };
        format!("{gap}{}.{}", it.incarnation, it.seq)
    };
    batch.iter().map(place).collect()
}

#[test]
fn a_log_goes_on_from_one_incarnation_to_the_next() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    write(dir.path(), 1, 1..=2);
    write(dir.path(), 2, 1..=1);
    assert_eq!(
        read(dir.path(), &request((0, 0), None)),
        ["1.1", "1.2", "2.1"]
    );
    assert_eq!(read(dir.path(), &request((1, 1), None)), ["1.2", "2.1"]);
    assert_eq!(read(dir.path(), &request((2, 1), None)), [""; 0]);
}

#[test]
fn a_tail_reaches_back_over_incarnations() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    write(dir.path(), 1, 1..=3);
    write(dir.path(), 2, 1..=2);
    assert_eq!(
        read(dir.path(), &request((0, 0), Some(3))),
        ["1.3", "2.1", "2.2"]
    );
    assert_eq!(read(dir.path(), &request((0, 0), Some(1))), ["2.2"]);
    assert_eq!(read(dir.path(), &request((0, 0), Some(0))), [""; 0]);
}

#[test]
fn what_is_no_longer_kept_shows_as_a_gap() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    write(dir.path(), 4, 7..=8);
    assert_eq!(read(dir.path(), &request((2, 5), None)), ["~4.7", "4.8"]);
    assert_eq!(read(dir.path(), &request((4, 3), None)), ["~4.7", "4.8"]);
    assert_eq!(read(dir.path(), &request((4, 6), None)), ["4.7", "4.8"]);
}

#[test]
fn a_cursor_finds_what_is_written_later() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let mut cursor =
        Cursor::open(dir.path().to_path_buf(), &request((0, 0), None)).expect("nothing is there");
    assert!(cursor.read("x").expect("the log is readable").is_empty());
    write(dir.path(), 1, 1..=1);
    assert_eq!(cursor.read("x").expect("the log is readable").len(), 1);
    write(dir.path(), 2, 1..=1);
    assert_eq!(cursor.read("x").expect("the log is readable").len(), 1);
}
