//! Starting, ending and what is recorded of it.

use parallax_shim::adopt::{self, Adoption};
use parallax_shim::log::Stream;
use parallax_shim::record::ExitCause;
use parallax_shim::wire::{Reply, Request};

use crate::support::{Shim, runs, shell, spec, wait_for, wait_until_gone};

#[test]
fn a_command_that_exits_0_at_once_leaves_its_output_and_its_record() {
    let mut shim = Shim::start(&shell("echo out; echo err >&2"));
    let exit = shim.exit();
    assert_eq!(exit.code, Some(0));
    assert_eq!(exit.signal, None);
    assert_eq!(exit.cause, ExitCause::Exited);
    assert!(!exit.out_of_memory);
    assert!(exit.cpu_ns.is_some_and(|used| used < 60_000_000_000));
    assert!(exit.max_rss_bytes.is_some_and(|bytes| bytes > 0));
    assert_eq!(shim.lines(Stream::Out), ["out"]);
    assert_eq!(shim.lines(Stream::Err), ["err"]);
    let adoption = adopt::inspect(shim.dir()).expect("readable records");
    assert_eq!(adoption, Adoption::Exited(exit));
}

#[test]
fn an_exit_code_and_the_last_line_are_recorded() {
    let mut shim = Shim::start(&shell("echo first; echo 'last words'; echo; exit 7"));
    let exit = shim.exit();
    assert_eq!(exit.code, Some(7));
    assert_eq!(exit.last_log_line, "last words");
}

#[test]
fn a_signal_that_ends_the_child_is_recorded() {
    let mut shim = Shim::start(&shell("kill -SEGV $$"));
    let exit = shim.exit();
    assert_eq!((exit.code, exit.signal), (None, Some(11)));
    assert_eq!(exit.cause, ExitCause::Exited);
}

#[test]
fn a_missing_command_is_recorded_with_where_it_was_looked_for() {
    let mut shim = Shim::start(&spec(&["no-such-command"]));
    let exit = shim.exit();
    assert_eq!(exit.cause, ExitCause::StartFailed);
    assert_eq!(
        exit.start_error.as_deref(),
        Some(
            "cannot execute the program for the command \"no-such-command\" (looked for \
             /usr/bin/no-such-command, /bin/no-such-command): No such file or directory (os error 2)"
        )
    );
    let adoption = adopt::inspect(shim.dir()).expect("readable records");
    assert_eq!(adoption, Adoption::Exited(exit));
}

#[test]
fn a_missing_working_directory_is_recorded_by_name() {
    let mut spec = shell("true");
    spec.cwd = "/no/such/folder".into();
    let exit = Shim::start(&spec).exit();
    assert_eq!(
        exit.start_error.as_deref(),
        Some(
            "cannot enter the working directory for the command \"sh\" (/no/such/folder): \
             No such file or directory (os error 2)"
        )
    );
}

#[test]
fn a_spec_that_cannot_be_carried_out_is_recorded() {
    let exit = Shim::start(&spec(&[""])).exit();
    assert_eq!(exit.cause, ExitCause::StartFailed);
    assert_eq!(
        exit.start_error.as_deref(),
        Some("the command is empty; name a program in argv")
    );
}

#[test]
fn a_stop_lets_the_child_end_in_its_own_way() {
    let mut shim = Shim::start(&shell(
        "trap 'echo bye; exit 3' TERM; echo up; sleep 100 & wait",
    ));
    shim.line(0);
    let reply = shim.client().ask(&Request::Stop { grace_ms: None });
    assert_eq!(reply.expect("an answer"), Reply::Ok { version: 1 });
    let exit = shim.exit();
    assert_eq!((exit.code, exit.cause), (Some(3), ExitCause::Stopped));
    assert_eq!(shim.lines(Stream::Out), ["up", "bye"]);
}

#[test]
fn a_child_that_ignores_sigterm_is_killed_after_its_grace() {
    let mut shim = Shim::start(&shell("trap '' TERM; echo up; while :; do sleep 1; done"));
    shim.line(0);
    shim.client()
        .ask(&Request::Stop { grace_ms: Some(50) })
        .expect("an answer");
    let exit = shim.exit();
    assert_eq!(
        (exit.signal, exit.cause),
        (Some(9), ExitCause::KilledAfterGrace)
    );
    assert!(
        shim.lines(Stream::System)
            .contains(&"killed after grace".to_owned())
    );
}

#[test]
fn sigterm_to_the_shim_stops_the_child_with_grace() {
    let mut shim = Shim::start(&shell("trap 'exit 4' TERM; echo up; sleep 100 & wait"));
    shim.line(0);
    kill("-TERM", shim.state().shim_pid);
    let exit = shim.exit();
    assert_eq!((exit.code, exit.cause), (Some(4), ExitCause::Stopped));
}

#[test]
fn a_shim_survives_interrupts_and_hangups() {
    let mut shim = Shim::start(&shell("echo up; sleep 100"));
    shim.line(0);
    for signal in ["-INT", "-HUP", "-PIPE"] {
        kill(signal, shim.state().shim_pid);
    }
    let reply = shim.client().ask(&Request::Kill).expect("an answer");
    assert_eq!(reply, Reply::Ok { version: 1 });
    let exit = shim.exit();
    assert_eq!((exit.signal, exit.cause), (Some(9), ExitCause::Stopped));
}

#[test]
fn a_process_that_runs_too_long_is_stopped_by_its_deadline() {
    let mut spec = shell("sleep 100");
    spec.deadline_ms = Some(50);
    let exit = Shim::start(&spec).exit();
    assert_eq!((exit.signal, exit.cause), (Some(15), ExitCause::Deadline));
}

#[test]
fn a_deadline_also_ends_a_child_that_ignores_sigterm() {
    let mut spec = shell("trap '' TERM; while :; do sleep 1; done");
    spec.deadline_ms = Some(50);
    spec.stop_grace_ms = 50;
    let exit = Shim::start(&spec).exit();
    assert_eq!((exit.signal, exit.cause), (Some(9), ExitCause::Deadline));
}

#[test]
fn daemons_that_left_the_session_are_killed_with_the_child() {
    let script =
        "setsid sh -c 'sleep 1000 >/dev/null 2>&1 & echo $!; exec sleep 1000' & sleep 1000";
    let mut shim = Shim::start(&shell(script));
    let daemon: u32 = shim.line(0).parse().expect("a process id");
    kill("-KILL", shim.state().child_pid);
    let exit = shim.exit();
    assert_eq!((exit.signal, exit.cause), (Some(9), ExitCause::Exited));
    assert!(!runs(daemon), "the daemon outlived the replica");
}

#[test]
fn the_child_gets_its_environment_and_no_descriptor_but_three() {
    let mut spec = spec(&[crate::support::PROGRAM, "rights"]);
    spec.env.clear();
    let mut shim = Shim::start(&spec);
    assert_eq!(shim.exit().code, Some(0));
    let lines = shim.lines(Stream::Out);
    assert!(lines.contains(&"fds [0, 1, 2]".to_owned()), "{lines:?}");
    assert!(
        lines.contains(&"SigBlk: 0000000000000000".to_owned()),
        "{lines:?}"
    );
}

#[test]
fn a_second_shim_in_the_same_folder_is_refused() {
    let mut shim = Shim::start(&shell("echo up; sleep 100"));
    shim.line(0);
    let mut second = crate::support::launch(shim.dir());
    let status = wait_for("end of the second shim", || {
        second.try_wait().expect("the shim is our child")
    });
    assert_eq!(status.code(), Some(2));
    let adoption = adopt::inspect(shim.dir()).expect("readable records");
    assert_eq!(
        adoption,
        Adoption::Running {
            state: shim.state()
        }
    );
    shim.client().ask(&Request::Kill).expect("an answer");
    shim.exit();
}

#[test]
fn a_folder_without_a_shim_has_never_been_started() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    shell("true")
        .store(folder.path())
        .expect("a writable folder");
    let adoption = adopt::inspect(folder.path()).expect("readable records");
    assert_eq!(adoption, Adoption::NeverStarted);
}

#[test]
fn a_killed_shim_takes_its_child_along_and_leaves_the_rest_to_the_host() {
    let script = "(setsid sleep 1000 & echo $!); sleep 1000 & echo $!; sleep 1000";
    let mut shim = Shim::start(&shell(script));
    let daemon: u32 = shim.line(0).parse().expect("a process id");
    let background: u32 = shim.line(1).parse().expect("a process id");
    let state = shim.state();
    shim.kill_shim();
    wait_until_gone(state.child_pid);
    let adoption = adopt::inspect(shim.dir()).expect("readable records");
    assert_eq!(adoption, Adoption::Lost { state });
    adopt::kill_leftovers(shim.dir()).expect("everything can be killed");
    assert!(!runs(background), "a process of the session is left");
    assert!(!runs(daemon), "a process that held the output is left");
    assert_eq!(
        adopt::kill_leftovers(shim.dir()).expect("nothing is left"),
        0
    );
}

pub(crate) fn kill(signal: &str, pid: u32) {
    let status = std::process::Command::new("kill")
        .args([signal, &pid.to_string()])
        .status()
        .expect("kill is everywhere");
    assert!(status.success());
}
