use super::*;

const GRACE: Duration = Duration::from_secs(3);

fn at(millis: i64) -> Timestamp {
    Timestamp::from_unix_millis(millis)
}

fn wanted(run: bool) -> Wanted {
    Wanted {
        run,
        grace: GRACE,
        may_start: true,
    }
}

fn fresh() -> Actual {
    Actual {
        process: Process::None,
        prepared: true,
        refused: false,
        outdated: false,
        crashes: 0,
        ended_at: None,
        end_recorded: true,
    }
}

fn crashed(crashes: u32) -> Actual {
    Actual {
        crashes,
        ended_at: Some(at(10_000)),
        ..fresh()
    }
}

#[track_caller]
fn check(wanted: Wanted, actual: Actual, now: i64, expected: &[Action]) {
    assert_eq!(reconcile(wanted, &actual, at(now)), expected, "{actual:?}");
}

#[test]
fn a_wanted_replica_is_started_once_its_revision_is_prepared() {
    let waiting = Actual {
        prepared: false,
        ..fresh()
    };
    check(
        wanted(true),
        waiting,
        0,
        &[Action::Report(State::Preparing)],
    );
    check(wanted(true), fresh(), 0, &[Action::Start]);
}

#[test]
fn an_outdated_process_is_stopped_and_started_anew() {
    let outdated = Actual {
        process: Process::Alive,
        outdated: true,
        ..fresh()
    };
    let stop = [
        Action::Report(State::Stopping),
        Action::Stop { grace: GRACE },
    ];
    check(wanted(true), outdated, 0, &stop);
    check(wanted(true), fresh(), 0, &[Action::Start]);
}

#[test]
fn a_running_replica_is_left_alone() {
    let alive = Actual {
        process: Process::Alive,
        ..fresh()
    };
    check(wanted(true), alive, 0, &[Action::Report(State::Running)]);
}

#[test]
fn a_crashed_replica_waits_longer_each_time() {
    for (crashes, delay) in [(1, 500), (2, 1000), (3, 2000), (9, 60_000)] {
        let until = 10_000 + delay;
        let waiting = [Action::Report(State::Backoff { until: at(until) })];
        check(wanted(true), crashed(crashes), until - 1, &waiting);
        check(wanted(true), crashed(crashes), until, &[Action::Start]);
    }
}

#[test]
fn a_replica_that_did_not_crash_is_started_at_once() {
    check(wanted(true), crashed(0), 10_000, &[Action::Start]);
}

#[test]
fn an_unwanted_replica_is_asked_to_stop_once() {
    let alive = Actual {
        process: Process::Alive,
        ..fresh()
    };
    let asked = [
        Action::Report(State::Stopping),
        Action::Stop { grace: GRACE },
    ];
    check(wanted(false), alive, 0, &asked);
    let stopping = Actual {
        process: Process::Stopping,
        ..fresh()
    };
    check(
        wanted(false),
        stopping,
        0,
        &[Action::Report(State::Stopping)],
    );
}

#[test]
fn a_replica_that_is_wanted_again_while_it_stops_is_started_afterwards() {
    let stopping = Actual {
        process: Process::Stopping,
        ..fresh()
    };
    check(
        wanted(true),
        stopping,
        0,
        &[Action::Report(State::Stopping)],
    );
}

#[test]
fn stopped_is_said_only_of_an_end_that_was_recorded() {
    let gone = [Action::Release, Action::Report(State::Stopped)];
    check(wanted(false), fresh(), 0, &gone);
    let unseen = Actual {
        end_recorded: false,
        ..fresh()
    };
    let lost = [Action::Release, Action::Report(State::Lost)];
    check(wanted(false), unseen, 0, &lost);
}

#[test]
fn a_refused_replica_is_never_started() {
    let refused = Actual {
        refused: true,
        ..fresh()
    };
    check(wanted(true), refused, 0, &[Action::Report(State::Refused)]);
}

#[test]
fn a_host_that_may_not_start_anything_leaves_an_ended_replica_alone() {
    let idle = Wanted {
        may_start: false,
        ..wanted(true)
    };
    check(idle, fresh(), 0, &[Action::Report(State::Idle)]);
}

fn id(n: u8) -> ReplicaId {
    ReplicaId::new(at(1), [n; 10])
}

#[test]
fn only_a_complete_set_stops_what_it_does_not_name() {
    let known = BTreeMap::from([(id(1), true), (id(2), true), (id(3), false)]);
    let named = BTreeSet::from([id(1)]);
    let none = BTreeSet::new();
    assert_eq!(reconcile_set(&known, &named, false, &none), []);
    let expected = [SetChange::Stop(id(2))];
    assert_eq!(reconcile_set(&known, &named, true, &none), expected);
}

#[test]
fn a_forgotten_replica_is_stopped_first() {
    let known = BTreeMap::from([(id(1), true), (id(2), false)]);
    let forget = BTreeSet::from([id(1), id(2), id(9)]);
    let expected = [
        SetChange::Stop(id(1)),
        SetChange::Forget(id(1)),
        SetChange::Forget(id(2)),
    ];
    assert_eq!(
        reconcile_set(&known, &BTreeSet::new(), false, &forget),
        expected
    );
}

#[test]
fn a_replica_that_is_named_is_not_forgotten() {
    let known = BTreeMap::from([(id(1), true)]);
    let named = BTreeSet::from([id(1)]);
    assert_eq!(reconcile_set(&known, &named, true, &named), []);
}
