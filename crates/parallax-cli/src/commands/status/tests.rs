use serde_json::json;

use super::*;

fn view() -> StatusView {
    let start = "2026-01-01T00:00:00.000000Z";
    serde_json::from_value(json!({
        "id": "agt_01m82ct3z3072gdvm1eqepq4c3",
        "agent": "parrot",
        "generation": 2,
        "phase": "Degraded",
        "reason": "CrashLoop",
        "message": "1 of 2 replicas are ready; exit code 1; last lines:\nno crackers",
        "since": start,
        "observed_generation": 1,
        "replicas": {"desired": 2, "ready": 1, "updated": 2},
        "conditions": [],
        "replica_details": [{
            "id": "rpl_01m82ctga2cshb2q7frkzag9v5",
            "revision": 1,
            "host": "hst_01m82ckbwwq8anq0fmnngx4fns",
            "want": "run",
            "phase": "backoff",
            "ready": false,
            "registered": false,
            "host_connected": true,
            "reason": "CrashLoop",
            "message": "exit code 1; last log line: no crackers",
            "incarnation": 3,
            "restarts": 2,
            "exit": {"code": 1, "out_of_memory": false, "ended_at": start, "last_log_line": "no crackers"},
            "isolation": "landlock+cgroup2",
            "memory_bytes": 24_683_656_u64 * 1024,
            "requests": 0,
            "in_flight": 0,
        }],
        "builds": [{
            "id": "bld_01m82ckfa8rvp9wgn0n02t5qng",
            "host": "hst_01m82ckbwwq8anq0fmnngx4fns",
            "source_digest": "sha256:00",
            "phase": "running",
            "message": "step 2 of 3: build",
            "cached": false,
            "created_at": start,
            "started_at": start,
        }],
    }))
    .expect("as the server answers")
}

fn revision() -> RevisionView {
    serde_json::from_value(json!({
        "id": "rev_01m82ckf9jbdwmq3kzmaj582mz",
        "number": 7,
        "source_digest": "sha256:00",
        "source_bytes": 1,
        "spec": {"name": "parrot", "resources": {"memory": "256Mi", "cpu": "500m"}},
        "created_at": "2026-01-01T00:00:00.000000Z",
        "created_by": "ci",
    }))
    .expect("as the server answers")
}

#[test]
fn a_status_says_why_what_is_built_and_which_limits_hold() {
    let lines = head(&view(), Some(&revision()), &Output::new(false, true));
    let is_said = |text: &str| lines.iter().any(|line| line.starts_with(text));
    for text in [
        "parrot (agt_01m82ctz",
        "  phase      Degraded, for ",
        "  reason     CrashLoop",
        "  message    1 of 2 replicas are ready; exit code 1",
        "             no crackers",
        "  replicas   1 ready, 2 up to date, 2 wanted",
        "  revision   7, deployed by ci ",
        "  build      running for ",
        "  isolation  landlock",
        "  limits     cgroup2: CPU 0.5, memory 256 MiB",
        "  note       a change is under way",
    ] {
        let text = text.replace("agt_01m82ctz", "agt_01m82ct3z");
        assert!(is_said(&text), "{text}: {lines:#?}");
    }
    let build = lines.iter().find(|line| line.contains("build  "));
    assert!(
        build.is_some_and(|line| line.ends_with(": step 2 of 3: build")),
        "{lines:#?}"
    );
}

#[test]
fn a_replica_is_shown_with_its_reason_and_last_end_within_a_hundred_columns() {
    let view = view();
    let output = Output::new(false, true);
    let rows = [replica(&view.replica_details[0], &view.status)];
    let header = [
        "REPLICA", "REV", "STATE", "RESTARTS", "CPU", "MEMORY", "REQUESTS", "UP",
    ];
    let lines = crate::table::lines(header, &rows, &output);
    assert!(
        lines[1].contains("backoff  2         -    23.5 GiB"),
        "{lines:#?}"
    );
    assert_eq!(
        lines[2],
        "  CrashLoop: exit code 1; last log line: no crackers"
    );
    assert!(
        lines[3].starts_with("  its last process ended, "),
        "{lines:#?}"
    );
    assert!(lines.iter().all(|line| line.len() <= 100), "{lines:#?}");
}

#[test]
fn limits_that_do_not_hold_are_not_shown_as_if_they_did() {
    let demand = revision().spec.resources;
    let words = limit_words("rlimit", Some(&demand));
    assert_eq!(words, "rlimit: CPU not limited, memory 256 MiB (watched)");
}

#[test]
fn a_phase_that_rests_on_what_was_before_has_a_question_mark() {
    let mut view = view();
    let line = |view: &StatusView, name: &str| {
        let lines = head(view, None, &Output::new(false, true));
        let found = lines.into_iter().find(|line| line.contains(name));
        found.expect("it is said")
    };
    assert_eq!(
        line(&view, "replicas  "),
        "  replicas   1 ready, 2 up to date, 2 wanted"
    );
    view.status.replicas.ready = 0;
    view.status.replicas.unconfirmed = 1;
    let phase = line(&view, "phase");
    assert!(phase.starts_with("  phase      Degraded?, for "), "{phase}");
    assert_eq!(
        line(&view, "replicas  "),
        "  replicas   0 ready, 1 not heard of yet, 2 up to date, 2 wanted"
    );
}

#[test]
fn of_a_replica_that_cannot_be_seen_only_what_was_seen_is_said() {
    let mut view = view();
    let one = &mut view.replica_details[0];
    one.phase = ReplicaPhase::Running;
    (one.reason, one.exit) = (None, None);
    one.message.clear();
    one.started_at = Some(view.status.since);
    let shown = |one: &ReplicaView| {
        let rows = [replica(one, &view.status)];
        let header = ["", "", "", "", "", "", "", "UP"];
        crate::table::lines(header, &rows, &Output::new(false, true))
    };
    let one = &mut view.replica_details[0].clone();
    let lines = shown(one);
    assert!(
        !lines[1].ends_with('-'),
        "its host says that it runs: {lines:#?}"
    );
    assert_eq!(
        lines[2],
        "  the process runs, and its agent is not connected"
    );
    one.host_connected = false;
    let lines = shown(one);
    assert!(
        lines[1].ends_with("running, host away  2  -  23.5 GiB  0  -"),
        "{lines:#?}"
    );
    assert!(
        lines[2].starts_with("  ran when its host was last heard of"),
        "{lines:#?}"
    );
    (one.host_connected, one.want) = (true, "stop".to_owned());
    assert_eq!(shown(one)[2], "  the process is still there");
}

#[test]
fn earlier_replicas_are_counted_and_their_lines_not_promised() {
    assert_eq!(
        earlier(1, "a"),
        "1 earlier replica has ended; `parallax logs a` shows what is kept of its lines."
    );
    assert_eq!(
        earlier(2, "a"),
        "2 earlier replicas have ended; `parallax logs a` shows what is kept of their lines."
    );
}

#[test]
fn a_limit_that_does_not_hold_is_shown_as_such() {
    let demand: Resources =
        serde_json::from_value(json!({"memory": "256Mi", "cpu": "500m", "pids": 64}))
            .expect("as a manifest says it");
    let shown = |means| limit_words(means, Some(&demand));
    assert_eq!(
        shown("cgroup2"),
        "cgroup2: CPU 0.5, memory 256 MiB, 64 processes"
    );
    assert_eq!(
        shown("cgroup2(cpu,pids)"),
        "cgroup2(cpu,pids): CPU 0.5, memory 256 MiB (watched), 64 processes"
    );
    assert_eq!(
        shown("rlimit"),
        "rlimit: CPU not limited, memory 256 MiB (watched), 64 processes (but not root's)"
    );
}
