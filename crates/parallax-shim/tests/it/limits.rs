//! Limits by cgroup and by process.

use parallax_shim::cgroup::{Cgroup, CgroupError, CgroupLimits, Cgroups, Controller};
use parallax_shim::log::Stream;
use parallax_shim::record::ExitCause;
use parallax_shim::spec::Rlimits;
use parallax_shim::wire::Request;

use crate::support::{PROGRAM, Shim, shell, skipped, spec, wait_for};

/// A cgroup that is removed with the test.
struct Owned(Cgroup);

impl Drop for Owned {
    fn drop(&mut self) {
        wait_for("empty cgroup", || self.0.kill().is_empty().then_some(()));
        self.0.remove().expect("an empty cgroup can be removed");
    }
}

fn cgroup(name: &str, controller: Controller, limits: &CgroupLimits) -> Option<Owned> {
    let found = Cgroups::detect().expect("/proc is readable");
    if !found.controllers().contains(&controller) {
        skipped(&format!("no writable {controller} cgroup"));
        return None;
    }
    let name = format!("{name}-{}", std::process::id());
    let made = found
        .create("parallax-test", &name, limits)
        .expect("a cgroup");
    Some(Owned(made))
}

#[test]
fn a_fork_bomb_is_bounded_and_killed() {
    let limits = CgroupLimits {
        pids: Some(40),
        ..CgroupLimits::default()
    };
    let Some(cgroup) = cgroup("bomb", Controller::Pids, &limits) else {
        return;
    };
    let mut spec = spec(&[PROGRAM, "fork-bomb"]);
    spec.cgroup_dirs = cgroup.0.dirs().to_vec();
    let mut shim = Shim::start(&spec);
    assert_eq!(shim.line(0), "full");
    shim.client().ask(&Request::Kill).expect("an answer");
    let exit = shim.exit();
    assert_eq!((exit.signal, exit.cause), (Some(9), ExitCause::Stopped));
    assert_eq!(cgroup.0.kill(), std::collections::BTreeSet::new());
}

#[test]
fn a_child_that_eats_memory_is_killed_and_the_record_says_why() {
    let limits = CgroupLimits {
        memory_bytes: Some(32 << 20),
        ..CgroupLimits::default()
    };
    let Some(cgroup) = cgroup("memory", Controller::Memory, &limits) else {
        return;
    };
    let mut spec = spec(&[PROGRAM, "eat-memory"]);
    spec.cgroup_dirs = cgroup.0.dirs().to_vec();
    let mut shim = Shim::start(&spec);
    let exit = shim.exit();
    assert_eq!((exit.signal, exit.out_of_memory), (Some(9), true));
    assert_eq!(
        cgroup.0.usage().expect("readable counters").oom_kills,
        Some(1)
    );
}

#[test]
fn leftovers_of_a_killed_shim_are_found_by_their_cgroup() {
    let Some(cgroup) = cgroup("lost", Controller::Pids, &CgroupLimits::default()) else {
        return;
    };
    let script = "setsid sh -c 'echo $$; exec sleep 1000 >/dev/null 2>&1' & sleep 1000";
    let mut spec = shell(script);
    spec.cgroup_dirs = cgroup.0.dirs().to_vec();
    let mut shim = Shim::start(&spec);
    let daemon: u32 = shim.line(0).parse().expect("a process id");
    shim.kill_shim();
    assert!(crate::support::runs(daemon));
    parallax_shim::adopt::kill_leftovers(shim.dir()).expect("everything can be killed");
    assert!(!crate::support::runs(daemon));
}

#[test]
fn usage_counts_the_tree() {
    let Some(cgroup) = cgroup("usage", Controller::Cpuacct, &CgroupLimits::default()) else {
        return;
    };
    let mut spec = shell("i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; echo up; sleep 1000");
    spec.cgroup_dirs = cgroup.0.dirs().to_vec();
    let shim = Shim::start(&spec);
    shim.line(0);
    let usage = cgroup.0.usage().expect("readable counters");
    assert!(
        usage.cpu_ns.is_some_and(|used| used > 1_000_000),
        "{usage:?}"
    );
    assert!(usage.memory_bytes.is_some_and(|used| used > 0), "{usage:?}");
    assert_eq!(usage.oom_kills, Some(0));
}

#[test]
fn limits_are_set_and_a_cgroup_in_use_is_not_given_away() {
    let limits = CgroupLimits {
        cpu_millis: Some(250),
        memory_bytes: Some(64 << 20),
        pids: Some(10),
    };
    let all = Cgroups::detect().expect("/proc is readable");
    for controller in [Controller::Cpu, Controller::Memory] {
        if !all.controllers().contains(&controller) {
            skipped(&format!("no writable {controller} cgroup"));
            return;
        }
    }
    let Some(cgroup) = cgroup("limits", Controller::Pids, &limits) else {
        return;
    };
    let values: Vec<String> = cgroup
        .0
        .dirs()
        .iter()
        .flat_map(|dir| {
            [
                "cpu.cfs_quota_us",
                "cpu.max",
                "memory.limit_in_bytes",
                "memory.max",
                "pids.max",
            ]
            .map(|file| dir.join(file))
        })
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .map(|value| value.trim().to_owned())
        .collect();
    assert!(values.contains(&"10".to_owned()), "{values:?}");
    assert!(values.contains(&"67108864".to_owned()), "{values:?}");
    let quota = values
        .iter()
        .any(|it| it == "25000" || it == "25000 100000");
    assert!(quota, "{values:?}");
    let mut spec = shell("echo up; sleep 1000");
    spec.cgroup_dirs = cgroup.0.dirs().to_vec();
    let shim = Shim::start(&spec);
    shim.line(0);
    let name = format!("limits-{}", std::process::id());
    let again = all.create("parallax-test", &name, &limits);
    assert!(
        matches!(again, Err(CgroupError::Occupied { .. })),
        "{again:?}"
    );
    assert!(matches!(
        cgroup.0.remove(),
        Err(CgroupError::Occupied { .. })
    ));
}

#[test]
fn resource_limits_apply_and_are_never_raised() {
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let mut spec = shell("ulimit -n; ulimit -f; ulimit -c; ulimit -v");
    spec.rlimits = Rlimits {
        nofile: Some(64),
        file_size_bytes: Some(1 << 20),
        address_space_bytes: Some(1 << 30),
        ..Rlimits::default()
    };
    let mut shim = Shim::start(&spec);
    shim.exit();
    // The shell counts files in blocks of 512 bytes and address space in KiB.
    assert_eq!(shim.lines(Stream::Out), ["64", "2048", "0", "1048576"]);
    spec.rlimits.nofile = Some(u64::MAX);
    let mut shim = Shim::start(&spec);
    shim.exit();
    let expected = hard.map_or_else(|| "unlimited".to_owned(), |hard| hard.to_string());
    assert_eq!(shim.lines(Stream::Out)[0], expected);
}
