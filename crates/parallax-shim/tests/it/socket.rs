//! The socket: who may ask, what is answered, and that nobody can hold up the shim.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use parallax_shim::client::{self, Client};
use parallax_shim::wire::{ErrorCode, Event, Phase, Reply, Request, WireError};

use crate::support::{Shim, shell, wait_for};

fn idle() -> Shim {
    let shim = Shim::start(&shell("echo up; sleep 1000"));
    shim.line(0);
    shim
}

/// Sends a line as it is and returns the answer.
fn say(stream: &UnixStream, line: &[u8]) -> Reply {
    let mut sender = stream;
    sender.write_all(line).expect("the shim listens");
    let mut answer = String::new();
    BufReader::new(stream)
        .read_line(&mut answer)
        .expect("the shim answers");
    serde_json::from_str(&answer).expect("a reply")
}

fn code(reply: &Reply) -> Option<ErrorCode> {
    match reply {
        Reply::Error(WireError { code, .. }) => Some(*code),
        _ => None,
    }
}

#[test]
fn status_tells_the_state_and_the_last_record() {
    let shim = idle();
    let Ok(Reply::Status(status)) = shim.client().ask(&Request::Status) else {
        panic!("a status is expected");
    };
    assert_eq!(status.phase, Phase::Running);
    assert_eq!(status.state, Some(shim.state()));
    assert_eq!(status.last_seq, 2);
    assert_eq!(status.exit, None);
}

#[test]
fn an_unknown_request_is_refused_and_the_connection_goes_on() {
    let shim = idle();
    let stream = client::connect(shim.dir()).expect("the shim listens");
    for line in [
        &b"{\"op\":\"dance\"}\n"[..],
        b"nonsense\n",
        b"\n",
        b"{\"op\":\"stop\",\"grace\":1}\n",
        b"{\"op\":\"signal\",\"signal\":99}\n",
        b"{\"op\":\"signal\",\"signal\":0}\n",
    ] {
        assert_eq!(code(&say(&stream, line)), Some(ErrorCode::InvalidRequest));
    }
    let reply = say(&stream, b"{\"op\":\"status\"}\n");
    assert!(matches!(reply, Reply::Status(_)), "{reply:?}");
}

#[test]
fn a_request_that_never_ends_is_refused() {
    let shim = idle();
    let stream = client::connect(shim.dir()).expect("the shim listens");
    let reply = say(&stream, &[b'x'; 8192]);
    assert_eq!(code(&reply), Some(ErrorCode::TooLong));
}

#[test]
fn a_client_that_cannot_show_the_token_is_refused() {
    let shim = idle();
    let path = shim.dir().join("shim.sock");
    for line in [
        &b"{\"op\":\"kill\"}\n"[..],
        b"{\"version\":1,\"token\":\"\"}\n",
        b"{\"version\":2,\"token\":\"00\"}\n",
    ] {
        let stream = UnixStream::connect(&path).expect("the shim listens");
        let reply = say(&stream, line);
        assert_eq!(code(&reply), Some(ErrorCode::Unauthenticated));
        let mut rest = Vec::new();
        (&stream).read_to_end(&mut rest).expect("the shim hangs up");
        assert_eq!(rest, b"");
    }
    for file in ["shim.sock", "shim.token", "spec.json", "state.json"] {
        let mode = std::fs::metadata(shim.dir().join(file))
            .expect("the shim runs")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn strangers_cannot_take_the_place_of_a_client_with_the_token() {
    let shim = idle();
    let path = shim.dir().join("shim.sock");
    let strangers: Vec<UnixStream> = (0..40)
        .filter_map(|_| UnixStream::connect(&path).ok())
        .collect();
    let reply = shim.client().ask(&Request::Status).expect("an answer");
    assert!(matches!(reply, Reply::Status(_)), "{reply:?}");
    drop(strangers);
}

#[test]
fn a_client_too_many_is_told_so() {
    let shim = idle();
    let mut clients: Vec<Client> = (0..16).map(|_| shim.client()).collect();
    for client in &mut clients {
        client.ask(&Request::Status).expect("an answer");
    }
    let reply: Reply = shim.client().receive().expect("an answer");
    assert_eq!(code(&reply), Some(ErrorCode::Busy));
}

#[test]
fn a_signal_reaches_the_child() {
    let shim = Shim::start(&shell(
        "trap 'echo got it' USR1; echo up; while :; do sleep 0.01; done",
    ));
    shim.line(0);
    let reply = shim.client().ask(&Request::Signal { signal: 10 });
    assert_eq!(reply.expect("an answer"), Reply::Ok { version: 1 });
    assert_eq!(shim.line(1), "got it");
}

#[test]
fn a_watcher_hears_of_records_and_of_the_end() {
    let mut shim = Shim::start(&shell("while :; do echo x; sleep 0.01; done"));
    let mut watcher = shim.client();
    watcher.send(&Request::Watch).expect("the shim listens");
    let mut last = 0;
    for _ in 0..5 {
        let Event::Log { seq } = watcher.receive().expect("an event") else {
            panic!("the child runs");
        };
        assert!(seq > last);
        last = seq;
    }
    shim.client().ask(&Request::Kill).expect("an answer");
    let told = loop {
        if let Event::Exit(exit) = watcher.receive().expect("an event") {
            break *exit;
        }
    };
    assert_eq!(told, shim.exit());
}

#[test]
fn a_new_watcher_of_a_silent_replica_hears_at_once_where_the_log_is() {
    let shim = idle();
    let mut watcher = shim.client();
    watcher.send(&Request::Watch).expect("the shim listens");
    let event: Event = watcher.receive().expect("an event");
    assert_eq!(event, Event::Log { seq: 2 });
}

#[test]
fn a_watcher_that_does_not_read_neither_stops_the_shim_nor_fills_its_memory() {
    let mut shim = Shim::start(&shell("seq 1 300000; echo done; sleep 1000"));
    let mut watcher = shim.client();
    watcher.send(&Request::Watch).expect("the shim listens");
    wait_for("last line", || {
        parallax_shim::log::LogReader::tail(shim.dir(), 1)
            .expect("a readable log")
            .any(|item| matches!(item, Ok(parallax_shim::log::LogItem::Record(it)) if it.line == b"done"))
            .then_some(())
    });
    shim.client().ask(&Request::Kill).expect("an answer");
    shim.exit();
}

#[test]
fn a_client_that_hangs_up_does_not_disturb_the_others() {
    let shim = idle();
    for _ in 0..100 {
        drop(client::connect(shim.dir()).expect("the shim listens"));
    }
    let reply = shim.client().ask(&Request::Status).expect("an answer");
    assert!(matches!(reply, Reply::Status(_)), "{reply:?}");
}

#[test]
fn a_folder_with_a_long_name_can_be_served_and_reached() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let deep = folder.path().join("d".repeat(200)).join("e".repeat(200));
    std::fs::create_dir_all(&deep).expect("a writable folder");
    let shim = Shim::start_in(&deep, &shell("sleep 1000"));
    let reply = shim.client().ask(&Request::Status).expect("an answer");
    assert!(matches!(reply, Reply::Status(_)), "{reply:?}");
}

#[test]
fn nobody_answers_for_a_replica_that_has_ended() {
    let mut shim = Shim::start(&shell("true"));
    shim.exit();
    let error = Client::connect(shim.dir(), Duration::from_secs(1)).expect_err("no shim is left");
    assert_eq!(
        error.to_string(),
        format!("no shim answers in {}", shim.dir().display())
    );
}
