use std::fs;
use std::path::Path;

use super::layout::{Hierarchy, parse};
use super::*;

/// What a machine with both versions shows; version 2 has no controllers there.
const HYBRID: &str = "\
31 23 0:28 / /nowhere rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /nowhere/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /nowhere/memory rw,relatime shared:7 - cgroup cgroup rw,memory
37 31 0:34 / /nowhere/freezer rw,relatime - cgroup cgroup rw,freezer
39 31 0:36 /part /nowhere/pids\\040here rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /nowhere/unified rw,relatime - cgroup2 cgroup2 rw
";
const OWN: &str = "5:freezer:/\n4:pids:/part/own\n3:memory:/some/where\n2:cpu,cpuacct:/\n0::/\n";

#[test]
fn hierarchies_are_recognised_by_their_controllers() {
    let found: Vec<_> = parse(HYBRID, OWN)
        .into_iter()
        .map(|it| (it.base, it.v2, it.controllers))
        .collect();
    let path = |path: &str| Path::new(path).to_path_buf();
    let expected = [
        (
            path("/nowhere/cpu/"),
            false,
            vec![Controller::Cpu, Controller::Cpuacct],
        ),
        (path("/nowhere/memory"), false, vec![Controller::Memory]),
        (path("/nowhere/pids here"), false, vec![Controller::Pids]),
        (path("/nowhere/unified"), true, vec![]),
    ];
    assert_eq!(found, expected);
}

/// A folder with the files that the kernel would make.
fn fake_v2(busy: bool) -> (tempfile::TempDir, Cgroups) {
    let base = tempfile::tempdir().expect("a temporary folder");
    let replica = base.path().join("parallax").join("r1");
    fs::create_dir_all(&replica).expect("a writable folder");
    for file in [
        "cgroup.subtree_control",
        "parallax/cgroup.subtree_control",
        "parallax/r1/cgroup.procs",
        "parallax/r1/cpu.max",
        "parallax/r1/memory.max",
        "parallax/r1/memory.swap.max",
        "parallax/r1/pids.max",
    ] {
        fs::write(base.path().join(file), "").expect("a writable folder");
    }
    if busy {
        fs::write(replica.join("cgroup.procs"), "1\n").expect("a writable folder");
    }
    let hierarchy = Hierarchy {
        base: base.path().to_path_buf(),
        v2: true,
        controllers: vec![Controller::Cpu, Controller::Memory, Controller::Pids],
    };
    (base, Cgroups::fake(vec![hierarchy]))
}

const LIMITS: CgroupLimits = CgroupLimits {
    cpu_millis: Some(1500),
    memory_bytes: Some(1 << 20),
    pids: Some(7),
};

#[test]
fn version_2_limits_are_written_in_its_own_files() {
    let (base, cgroups) = fake_v2(false);
    let made = cgroups
        .create("parallax", "r1", &LIMITS)
        .expect("the files are there");
    let replica = base.path().join("parallax/r1");
    assert_eq!(made.dirs(), std::slice::from_ref(&replica));
    for (file, expected) in [
        ("cpu.max", "150000 100000"),
        ("memory.max", "1048576"),
        ("memory.swap.max", "0"),
        ("pids.max", "7"),
    ] {
        let value = fs::read_to_string(replica.join(file)).expect("the file is there");
        assert_eq!(value, expected, "{file}");
    }
}

#[test]
fn a_cgroup_that_holds_processes_is_not_given_away() {
    let (_base, cgroups) = fake_v2(true);
    let result = cgroups.create("parallax", "r1", &LIMITS);
    assert!(
        matches!(result, Err(CgroupError::Occupied { .. })),
        "{result:?}"
    );
}

#[test]
fn a_limit_that_nothing_enforces_is_refused() {
    let cgroups = Cgroups::fake(Vec::new());
    let result = cgroups.create("parallax", "r1", &LIMITS);
    let Err(CgroupError::Unavailable { controller }) = result else {
        panic!("{result:?}");
    };
    assert_eq!(controller, Controller::Cpu);
}

#[test]
fn names_cannot_leave_their_parent() {
    let cgroups = Cgroups::fake(Vec::new());
    for name in ["", "..", ".hidden", "a/b", "a b", "ä"] {
        let result = cgroups.create("parallax", name, &CgroupLimits::default());
        assert!(matches!(result, Err(CgroupError::Name(_))), "{name:?}");
    }
}

#[test]
fn version_2_usage_is_read_from_its_own_files() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (file, text) in [
        ("cpu.stat", "usage_usec 12\nuser_usec 5\n"),
        ("memory.current", "5000\n"),
        ("memory.stat", "anon 1\ninactive_file 1000\n"),
        ("memory.events", "oom 2\noom_kill 1\noom_group_kill 0\n"),
    ] {
        fs::write(dir.path().join(file), text).expect("a writable folder");
    }
    let usage = Cgroup::from_dirs(vec![dir.path().to_path_buf()])
        .usage()
        .expect("readable files");
    let expected = CgroupUsage {
        cpu_ns: Some(12_000),
        memory_bytes: Some(4000),
        oom_kills: Some(1),
    };
    assert_eq!(usage, expected);
}

#[test]
fn detection_in_several_threads_finds_the_same() {
    let detect = || Cgroups::detect().expect("/proc is readable");
    let expected = detect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..20).map(|_| detect()).collect::<Vec<_>>()))
            .collect();
        for thread in threads {
            let found = thread.join().expect("no panic");
            assert!(found.iter().all(|it| *it == expected));
        }
    });
}
