//! The log: order, size, rotation, following.

use parallax_shim::log::{LogItem, LogReader, LogRecord, Stream};
use parallax_shim::spec::LogLimits;
use parallax_shim::wire::Request;

use crate::support::{PROGRAM, Shim, records, shell, spec, wait_for};

/// Bytes of the endless line: hundreds of times what a shim may hold.
const LONG_LINE: usize = 200 << 20;

#[test]
fn an_endless_line_streams_through_with_bounded_memory() {
    let mut spec = spec(&[PROGRAM, "line", &LONG_LINE.to_string()]);
    spec.log.keep_segments = 1000;
    let mut shim = Shim::start(&spec);
    let pid = shim.state().shim_pid;
    let mut peak = 0;
    let status = wait_for("end of the shim", || {
        peak = peak.max(field_kib(pid, "VmHWM:"));
        shim.process.try_wait().expect("the shim is our child")
    });
    assert!(status.success());
    let found = records(shim.dir());
    let line: Vec<&LogRecord> = found.iter().filter(|it| it.stream == Stream::Out).collect();
    assert_eq!(
        line.iter().map(|it| it.line.len()).sum::<usize>(),
        LONG_LINE
    );
    let (last, before) = line.split_last().expect("there are records");
    assert!(!last.partial && before.iter().all(|it| it.partial));
    assert!(peak > 0 && peak < 16 << 10, "the shim used {peak} KiB");
}

#[test]
fn an_idle_shim_costs_little_memory() {
    let shim = Shim::start(&shell("echo up; sleep 1000"));
    shim.line(0);
    let pid = shim.state().shim_pid;
    let rollup =
        std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the shim runs");
    let sum: u64 = ["Private_Clean:", "Private_Dirty:"]
        .into_iter()
        .map(|name| kib(&rollup, name))
        .sum();
    println!("private {sum} KiB, PSS {} KiB", kib(&rollup, "Pss:"));
    // Clean pages are the program itself, which all shims of a machine share.
    assert!(kib(&rollup, "Private_Dirty:") < 512, "{rollup}");
}

#[test]
fn rotation_keeps_the_newest_segments_and_readers_are_told_of_the_gap() {
    let mut spec = shell("seq 1 20000");
    spec.log = LogLimits {
        segment_bytes: 8192,
        keep_segments: 3,
        max_line_bytes: 1024,
    };
    let mut shim = Shim::start(&spec);
    shim.exit();
    let segments = std::fs::read_dir(shim.dir().join("log")).expect("a log");
    assert_eq!(segments.count(), 3);
    let mut items = LogReader::open(shim.dir(), 0).expect("a readable log");
    let Some(Ok(LogItem::Gap {
        first_seq,
        last_seq,
    })) = items.next()
    else {
        panic!("the gap must come first");
    };
    assert_eq!(first_seq, 1);
    let rest: Vec<LogRecord> = items
        .map(|item| match item.expect("a readable log") {
            LogItem::Record(record) => record,
            LogItem::Gap { .. } => panic!("one gap only"),
        })
        .collect();
    assert_eq!(rest[0].seq, last_seq + 1);
    assert!(rest.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1));
    // The records are "started", 1 to 20000, "exited".
    assert_eq!(rest[rest.len() - 1].seq, 20_002);
    assert_eq!(rest[rest.len() - 2].line, b"20000");
}

#[test]
fn a_reader_follows_a_log_through_its_rotation() {
    let mut spec = shell("i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done");
    spec.log = LogLimits {
        segment_bytes: 4096,
        keep_segments: 1000,
        max_line_bytes: 1024,
    };
    let shim = Shim::start(&spec);
    let mut reader = LogReader::open(shim.dir(), 0).expect("a readable log");
    let mut lines = Vec::new();
    wait_for("last line", || {
        for item in reader.by_ref() {
            let LogItem::Record(record) = item.expect("a readable log") else {
                panic!("nothing was rotated away");
            };
            if record.stream == Stream::Out {
                lines.push(String::from_utf8_lossy(&record.line).into_owned());
            }
        }
        (lines.len() == 3000).then_some(())
    });
    let expected: Vec<String> = (1..=3000).map(|i| format!("line {i}")).collect();
    assert_eq!(lines, expected);
}

#[test]
fn a_tail_shows_the_last_records_and_then_what_follows() {
    let shim = Shim::start(&shell("seq 1 50; read -r _ < /dev/null; sleep 1000"));
    wait_for("50 lines", || {
        (shim.lines(Stream::Out).len() == 50).then_some(())
    });
    let tail: Vec<Vec<u8>> = LogReader::tail(shim.dir(), 3)
        .expect("a readable log")
        .map(|item| match item.expect("a readable log") {
            LogItem::Record(record) => record.line,
            LogItem::Gap { .. } => panic!("a tail has no gap"),
        })
        .collect();
    assert_eq!(tail, [b"48".to_vec(), b"49".to_vec(), b"50".to_vec()]);
}

#[test]
fn a_prompt_without_newline_becomes_visible_and_goes_on_later() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let go = folder.path().join("go");
    let script = format!(
        "printf 'name? '; while [ ! -e {} ]; do sleep 0.01; done; echo it",
        go.display()
    );
    let mut shim = Shim::start(&shell(&script));
    let prompt = wait_for("prompt", || {
        shim.records()
            .into_iter()
            .find(|it| it.stream == Stream::Out)
    });
    assert_eq!(
        (prompt.line.as_slice(), prompt.partial),
        (&b"name? "[..], true)
    );
    std::fs::write(go, "").expect("a writable folder");
    shim.exit();
    assert_eq!(shim.lines(Stream::Out), ["name? it"]);
}

#[test]
fn what_the_child_prints_last_is_in_the_log_when_the_shim_has_ended() {
    let mut shim = Shim::start(&shell("seq 1 5000; printf end"));
    assert_eq!(shim.exit().last_log_line, "end");
    let lines = shim.lines(Stream::Out);
    assert_eq!((lines.len(), lines[5000].as_str()), (5001, "end"));
}

#[test]
fn a_child_that_floods_cannot_keep_a_stop_from_being_heard() {
    let mut shim = Shim::start(&shell("yes & yes >&2 & wait"));
    shim.client()
        .ask(&Request::Stop {
            grace_ms: Some(100),
        })
        .expect("an answer");
    shim.exit();
}

fn field_kib(pid: u32, name: &str) -> u64 {
    std::fs::read_to_string(format!("/proc/{pid}/status")).map_or(0, |status| kib(&status, name))
}

fn kib(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|value| value.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}
