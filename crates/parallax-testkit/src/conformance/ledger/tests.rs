//! Each rule bites: a ledger that lets everything pass would make the suite worthless.

use parallax_proto::v1::agent_up::Frame;
use parallax_proto::v1::{
    Confidence, Heartbeat, Hello, Partial, Payload, Progress, TaskAccepted, TaskFailed,
};

use super::*;

const LIMITS: Limits = Limits {
    max_frame_bytes: 1_000,
    max_inline_bytes: 100,
    max_blob_bytes: 10_000,
    partial_window_bytes: 10,
    max_credit: 3,
};

fn task() -> TaskRef {
    TaskRef {
        task_id: "tsk_1".to_owned(),
        attempt: 2,
        run: "run".to_owned(),
        step: "step".to_owned(),
    }
}

/// A ledger of an agent of concurrency 4 with one task given.
fn ledger() -> Ledger {
    let hello = Hello {
        credit: 2,
        ..Hello::default()
    };
    let mut ledger = Ledger::open(&hello, LIMITS, 7, 4);
    ledger.gave(&task());
    ledger
}

fn accepted(task: TaskRef) -> Frame {
    Frame::Accepted(TaskAccepted { r#ref: Some(task) })
}

fn partial(seq: u64, bytes: usize) -> Frame {
    Frame::Partial(Partial {
        r#ref: Some(task()),
        seq,
        chunk: vec![b'x'; bytes].into(),
    })
}

fn result(json: &str, credit: u32) -> TaskResult {
    TaskResult {
        r#ref: Some(task()),
        value: Some(Payload {
            content: Some(payload::Content::Json(json.to_owned().into())),
        }),
        credit,
        ..TaskResult::default()
    }
}

fn failed(code: &str) -> Frame {
    Frame::Failed(TaskFailed {
        r#ref: Some(task()),
        code: code.to_owned(),
        ..TaskFailed::default()
    })
}

fn stopped() -> Frame {
    Frame::CancelAck(CancelAck {
        r#ref: Some(task()),
        outcome: cancel_ack::Outcome::Stopped.into(),
    })
}

/// Books all frames, of which the last breaks a rule when `breach` names part of it.
fn check_frames(frames: &[Frame], breach: Option<&str>) {
    let mut ledger = ledger();
    let (last, before) = frames.split_last().expect("a case has frames");
    for frame in before {
        ledger
            .book(frame)
            .expect("only the last frame breaks a rule");
    }
    match (ledger.book(last), breach) {
        (Ok(()), None) => {}
        (Err(found), Some(expected)) => {
            assert!(
                found.wanted.contains(expected),
                "{found} is not about {expected:?}"
            );
        }
        (booked, expected) => panic!("{last:?}: expected {expected:?}, booked as {booked:?}"),
    }
}

#[test]
fn a_whole_task_breaks_no_rule() {
    check_frames(
        &[
            accepted(task()),
            partial(1, 5),
            partial(2, 5),
            Frame::Result(result("{}", 1)),
            Frame::Heartbeat(Heartbeat {
                lease_epoch: 7,
                ..Heartbeat::default()
            }),
        ],
        None,
    );
    check_frames(&[failed("unknown_capability")], None);
}

#[test]
fn frames_of_tasks_that_were_not_given_are_refused() {
    let other = TaskRef {
        attempt: 1,
        ..task()
    };
    check_frames(&[accepted(other)], Some("name a task and attempt"));
    check_frames(
        &[Frame::Accepted(TaskAccepted { r#ref: None })],
        Some("name a task"),
    );
    let clipped = TaskRef {
        step: String::new(),
        ..task()
    };
    check_frames(&[accepted(clipped)], Some("echoed whole"));
}

#[test]
fn nothing_comes_before_the_acceptance_or_after_the_end() {
    check_frames(&[partial(1, 1)], Some("TaskAccepted comes before"));
    check_frames(
        &[Frame::Result(result("{}", 0))],
        Some("TaskAccepted comes before"),
    );
    check_frames(&[accepted(task()), accepted(task())], Some("comes once"));
    let end = Frame::Result(result("{}", 0));
    check_frames(
        &[accepted(task()), end.clone(), end.clone()],
        Some("ends once"),
    );
    check_frames(
        &[accepted(task()), end.clone(), failed("x")],
        Some("ends once"),
    );
    check_frames(
        &[accepted(task()), stopped(), end.clone()],
        Some("ends once"),
    );
    check_frames(
        &[accepted(task()), end, stopped()],
        Some("ended without a result"),
    );
}

#[test]
fn partials_keep_their_sequence_and_their_window() {
    check_frames(&[accepted(task()), partial(2, 1)], Some("without holes"));
    check_frames(
        &[accepted(task()), partial(1, 1), partial(1, 1)],
        Some("without holes"),
    );
    check_frames(
        &[accepted(task()), partial(1, 11)],
        Some("partial_window_bytes"),
    );
    check_frames(
        &[accepted(task()), partial(1, 9), partial(2, 2)],
        Some("partial_window_bytes"),
    );
}

#[test]
fn a_wider_window_lets_more_through() {
    let mut ledger = ledger();
    ledger.book(&accepted(task())).expect("a given task");
    ledger.granted_window(&task(), 5);
    ledger
        .book(&partial(1, 15))
        .expect("10 of the window and 5 more");
    assert!(ledger.book(&partial(2, 1)).is_err());
}

#[test]
fn credit_stays_within_the_concurrency_and_the_servers_limit() {
    let credit = |n| Frame::Credit(Credit { n });
    check_frames(&[credit(2)], None);
    check_frames(&[credit(3)], Some("never exceed the agent's concurrency"));
    check_frames(
        &[accepted(task()), Frame::Result(result("{}", 4))],
        Some("concurrency"),
    );
    check_frames(
        &[accepted(task()), Frame::Result(result("{}", 1)), credit(2)],
        Some("Limits.max_credit"),
    );
}

#[test]
fn values_are_json_of_the_allowed_size() {
    let sent = |result| [accepted(task()), Frame::Result(result)];
    check_frames(&sent(result("{", 0)), Some("UTF-8 JSON"));
    let long = format!("\"{}\"", "x".repeat(100));
    check_frames(&sent(result(&long, 0)), Some("BlobService.Put"));
    let long = format!("\"{}\"", "x".repeat(1_000));
    check_frames(&sent(result(&long, 0)), Some("max_frame_bytes"));
    let sure = TaskResult {
        confidence: Some(Confidence {
            ppm: 1_000_001,
            source: "self".to_owned(),
        }),
        ..result("{}", 0)
    };
    check_frames(&sent(sure), Some("Confidence"));
}

#[test]
fn small_rules_hold() {
    let beat = Frame::Heartbeat(Heartbeat {
        lease_epoch: 6,
        ..Heartbeat::default()
    });
    check_frames(&[beat], Some("lease_epoch"));
    check_frames(&[Frame::Hello(Hello::default())], Some("comes once"));
    check_frames(&[failed("")], Some("stable word"));
    let ack = Frame::CancelAck(CancelAck {
        r#ref: Some(task()),
        outcome: 0,
    });
    check_frames(&[ack], Some("stopped, too_late or unknown"));
    let progress = Frame::Progress(Progress {
        r#ref: Some(task()),
        ppm: Some(1_000_001),
        message: String::new(),
    });
    check_frames(&[accepted(task()), progress], Some("ppm"));
}

#[test]
fn a_kept_task_goes_on_after_the_servers_number() {
    let mut ledger = Ledger::open(&Hello::default(), LIMITS, 7, 4);
    ledger.kept(&task(), 3);
    ledger.book(&partial(4, 1)).expect("kept up to 3");
    assert!(
        ledger.book(&accepted(task())).is_err(),
        "it was accepted in an earlier session"
    );
    assert_eq!(ledger.running(), 1);
}
