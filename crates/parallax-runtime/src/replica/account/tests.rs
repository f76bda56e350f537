use super::*;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_unix_millis(secs * 1000)
}

fn record(cause: ExitCause, code: Option<i32>, ended: u64) -> End {
    End::Recorded(Box::new(ExitRecord {
        version: parallax_shim::record::RECORD_VERSION,
        code,
        signal: None,
        out_of_memory: false,
        ended_unix_us: ended * 1_000_000,
        last_log_line: "boom".to_owned(),
        cause,
        start_error: None,
        cpu_ns: None,
        max_rss_bytes: None,
    }))
}

fn crash(progress: &Progress, code: i32, started: i64, ended: u64) -> Progress {
    let end = record(ExitCause::Exited, Some(code), ended);
    account(
        progress,
        progress.accounted + 1,
        &end,
        true,
        None,
        Some(at(started)),
        at(9_999),
    )
}

fn reason(progress: &Progress) -> Option<Reason> {
    progress.last.as_ref().and_then(|last| last.reason)
}

#[test]
fn the_third_crash_in_a_row_is_a_loop() {
    let one = crash(&Progress::default(), 1, 0, 1);
    let two = crash(&one, 1, 2, 3);
    let three = crash(&two, 1, 4, 5);
    assert_eq!((reason(&one), reason(&two)), (None, None));
    assert_eq!(reason(&three), Some(Reason::CrashLoop));
    assert_eq!((three.crashes, three.accounted), (3, 3));
    let last = three.last.expect("it ended");
    assert_eq!(
        last.message,
        "3 crashes in a row; exit code 1; last log line: boom"
    );
}

#[test]
fn a_replica_that_ran_a_minute_is_forgiven_its_earlier_crashes() {
    let two = crash(&crash(&Progress::default(), 1, 0, 1), 1, 2, 3);
    assert_eq!(crash(&two, 1, 4, 64).crashes, 1);
}

#[test]
fn an_agent_that_ends_with_code_0_has_ended_early() {
    let early = crash(&Progress::default(), 0, 0, 1);
    assert_eq!(
        (reason(&early), early.crashes),
        (Some(Reason::ExitedEarly), 1)
    );
}

#[test]
fn an_asked_for_end_is_no_crash() {
    let one = crash(&Progress::default(), 1, 0, 1);
    for cause in [ExitCause::Stopped, ExitCause::KilledAfterGrace] {
        let end = record(cause, Some(0), 5);
        let next = account(&one, 2, &end, true, None, Some(at(2)), at(9));
        assert_eq!((next.crashes, reason(&next)), (0, None), "{cause:?}");
    }
}

#[test]
fn an_end_that_nobody_recorded_is_a_crash_without_an_exit() {
    let end = End::Unrecorded;
    let next = account(&Progress::default(), 1, &end, true, None, None, at(9));
    let last = next.last.clone().expect("it ended");
    assert_eq!((next.crashes, reason(&next)), (1, Some(Reason::ShimLost)));
    assert_eq!((last.exit, last.recorded), (None, false));
}

#[test]
fn a_command_that_cannot_be_started_says_what_the_shim_said() {
    let mut end = record(ExitCause::StartFailed, None, 1);
    if let End::Recorded(record) = &mut end {
        record.start_error = Some("no such program".to_owned());
    }
    let next = account(&Progress::default(), 1, &end, true, None, None, at(9));
    let last = next.last.clone().expect("it ended");
    assert_eq!(reason(&next), Some(Reason::StartFailed));
    assert_eq!(last.message, "no such program");
    assert_eq!(last.exit, None, "there was no process that could end");
}

#[test]
fn an_end_for_too_much_memory_is_a_crash_with_figures() {
    // As the shim records it: it was asked to kill.
    let end = record(ExitCause::Stopped, None, 5);
    let excess = Excess {
        used: 300 << 20,
        limit: 256 << 20,
    };
    let next = account(
        &Progress::default(),
        1,
        &end,
        true,
        Some(excess),
        None,
        at(9),
    );
    assert_eq!(
        (next.crashes, reason(&next)),
        (1, Some(Reason::OutOfMemory))
    );
    let last = next.last.expect("it ended");
    assert!(!last.on_purpose);
    assert!(last.exit.is_some_and(|exit| exit.out_of_memory));
    let words = "it was seen to use 300 MiB of memory, and may use 256 MiB";
    assert!(last.message.contains(words), "{}", last.message);
}
