//! Shims that are just starting, while somebody looks at their folders.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parallax_shim::adopt::{self, Adoption};
use parallax_shim::record::StateRecord;

use crate::support::{Shim, launch, shell, wait_for};

/// Starts of each test: enough to hit every moment of the few milliseconds of a start.
const ROUNDS: u32 = 60;
/// Between two looks: as often as the most impatient host looks.
const PAUSE: Duration = Duration::from_millis(1);

#[test]
fn no_start_fails_because_somebody_looks() {
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        adopt::inspect(folder.path()).expect("it can be judged");
                        std::thread::sleep(PAUSE);
                    }
                });
            }
            let mut shim = Shim::start_in(folder.path(), &shell("exit 7"));
            let ended = wait_for("end of the shim", || {
                shim.process.try_wait().expect("the shim is our child")
            });
            over.store(true, Ordering::Relaxed);
            assert!(ended.success(), "{ended}: {}", shim.complaint());
            assert_eq!(shim.exit().code, Some(7));
        });
    }
}

#[test]
fn a_start_that_was_given_up_never_happens_and_one_that_happens_is_not_given_up() {
    let mut given_up = 0;
    for round in 0..ROUNDS {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut shim = Shim::start_in(folder.path(), &shell("exec sleep 1000"));
        // From at once to after the start, which takes some milliseconds.
        std::thread::sleep(Duration::from_micros(u64::from(round) * 150));
        let judged = adopt::conclude(folder.path()).expect("it can be judged");
        match judged {
            Adoption::NeverStarted => {
                given_up += 1;
                let status = wait_for("end of the shim", || {
                    shim.process.try_wait().expect("the shim is our child")
                });
                assert!(!status.success(), "it went on: {status}");
                let state = StateRecord::load(folder.path()).expect("a readable folder");
                assert_eq!(state, None, "round {round}");
            }
            Adoption::Running { state } => assert!(crate::support::runs(state.child_pid)),
            other => panic!("round {round}: {other:?}"),
        }
    }
    assert!(given_up > 0, "no look was early enough to test anything");
}

#[test]
fn a_shim_that_comes_after_its_start_was_given_up_says_so() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    shell("true").store(folder.path()).expect("it is writable");
    for _ in 0..2 {
        let judged = adopt::conclude(folder.path()).expect("it can be judged");
        assert_eq!(judged, Adoption::NeverStarted);
    }
    let mut late = launch(folder.path());
    let status = wait_for("end of the shim", || late.try_wait().expect("it is ours"));
    assert_eq!(status.code(), Some(2));
    let judged = adopt::inspect(folder.path()).expect("it can be judged");
    assert_eq!(judged, Adoption::NeverStarted);
}
