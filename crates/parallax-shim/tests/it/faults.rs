//! Faults of the machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use parallax_shim::adopt::{self, Adoption};
use parallax_shim::log::Stream;
use parallax_shim::record::ExitCause;
use parallax_shim::wire::Request;

use crate::support::{Shim, shell, skipped, wait_for};

/// A file system of one MiB, unmounted with the test.
struct TinyDisk {
    folder: tempfile::TempDir,
}

impl TinyDisk {
    /// `None`, with a printed reason, where nothing can be mounted.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(folder.path())
            .stderr(std::process::Stdio::null())
            .status();
        if status.is_ok_and(|status| status.success()) {
            return Some(Self { folder });
        }
        skipped("cannot mount a tmpfs here");
        None
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all space that is left; the returned file gives it back when it is deleted.
    fn fill(&self) -> PathBuf {
        use std::io::Write;
        let path = self.path().join("ballast");
        let mut file = std::fs::File::create(&path).expect("an inode is left");
        while file.write_all(&[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        // A lazy unmount succeeds also while a failed test still has files open.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[test]
fn a_full_disk_blocks_nothing_and_the_log_says_what_it_cost() {
    let Some(disk) = TinyDisk::mount() else {
        return;
    };
    let dir = disk.path().join("incarnation");
    std::fs::create_dir(&dir).expect("a writable disk");
    let (flood, go) = (disk.path().join("flood"), disk.path().join("go"));
    let script = format!(
        "echo up; while [ ! -e {} ]; do sleep 0.01; done; seq 1 200000; rmdir {}; \
         while [ ! -e {} ]; do sleep 0.01; done; echo survived",
        flood.display(),
        flood.display(),
        go.display()
    );
    let mut shim = Shim::start_in(&dir, &shell(&script));
    shim.line(0);
    std::fs::create_dir(&flood).expect("a writable disk");
    // The child gets rid of 1.3 MB although the disk has less.
    wait_for("end of the flood", || (!flood.exists()).then_some(()));
    // Give back what the log took, as an operator would.
    let before = shim.records().len();
    let ballast = disk.fill();
    std::fs::remove_file(ballast).expect("the ballast is there");
    let bigger = Command::new("mount")
        .args(["-o", "remount,size=16m"])
        .arg(disk.path())
        .status();
    assert!(bigger.is_ok_and(|status| status.success()));
    std::fs::write(&go, "").expect("there is space again");
    let exit = shim.exit();
    assert_eq!(
        (exit.code, exit.last_log_line.as_str()),
        (Some(0), "survived")
    );
    let found = shim.records();
    assert!(found.len() > before);
    assert!(found.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1));
    let lost: u64 = shim
        .lines(Stream::System)
        .iter()
        .filter_map(|line| {
            line.strip_prefix("lost ")?
                .split(' ')
                .next()?
                .parse::<u64>()
                .ok()
        })
        .sum();
    let kept = shim.lines(Stream::Out).len() as u64;
    // "up", 200000 numbers, "survived": each is either in the log or counted as lost.
    assert!(lost > 0);
    assert_eq!(kept + lost, 200_002);
}

#[test]
fn an_end_is_recorded_although_the_disk_is_full() {
    let Some(disk) = TinyDisk::mount() else {
        return;
    };
    let dir = disk.path().join("incarnation");
    std::fs::create_dir(&dir).expect("a writable disk");
    let mut shim = Shim::start_in(&dir, &shell("echo up; sleep 1000"));
    shim.line(0);
    let mut client = shim.client();
    disk.fill();
    client.ask(&Request::Kill).expect("an answer");
    let exit = shim.exit();
    assert_eq!((exit.signal, exit.cause), (Some(9), ExitCause::Stopped));
}

#[test]
fn a_log_cut_in_the_middle_of_a_record_is_readable() {
    let mut shim = Shim::start(&shell("seq 1 100"));
    shim.exit();
    let segment = shim.dir().join("log/00000000000000000001.log");
    let whole = std::fs::read(&segment).expect("a log");
    let records = shim.records();
    std::fs::write(&segment, &whole[..whole.len() - 5]).expect("a writable log");
    assert_eq!(shim.records(), records[..records.len() - 1]);
}

#[test]
fn a_record_survives_a_shim_that_is_killed_after_writing_it() {
    let mut shim = Shim::start(&shell("exit 9"));
    let exit = wait_for("exit.json", || {
        parallax_shim::record::ExitRecord::load(shim.dir()).expect("a readable record")
    });
    shim.kill_shim();
    let adoption = adopt::inspect(shim.dir()).expect("readable records");
    assert_eq!(exit.code, Some(9));
    assert_eq!(adoption, Adoption::Exited(exit));
}

#[test]
fn a_process_that_has_taken_over_the_id_of_a_shim_is_not_mistaken_for_it() {
    let mut shim = Shim::start(&shell("sleep 1000"));
    let mut state = shim.state();
    shim.kill_shim();
    // The first process of the machine has the id of the record and another start time.
    state.shim_pid = 1;
    parallax_shim::durable::write_json(&shim.dir().join("state.json"), &state)
        .expect("a writable folder");
    let adoption = adopt::inspect(shim.dir()).expect("readable records");
    assert_eq!(adoption, Adoption::Lost { state });
}

#[test]
fn ids_of_another_boot_mean_nothing() {
    let mut shim = Shim::start(&shell("exec sleep 1000"));
    let mut state = shim.state();
    state.boot_id = "00000000-0000-0000-0000-000000000000".to_owned();
    parallax_shim::durable::write_json(&shim.dir().join("state.json"), &state)
        .expect("a writable folder");
    let adoption = adopt::inspect(shim.dir()).expect("readable records");
    assert_eq!(adoption, Adoption::Lost { state });
    // The processes that have these ids now are somebody else's.
    assert_eq!(
        adopt::kill_leftovers(shim.dir()).expect("nothing to kill"),
        0
    );
    shim.kill_shim();
}

#[test]
fn a_start_that_cannot_be_recorded_for_lack_of_space_says_so_and_leaves_nothing_running() {
    let Some(disk) = TinyDisk::mount() else {
        return;
    };
    let dir = disk.path().join("incarnation");
    std::fs::create_dir(&dir).expect("a writable disk");
    let spec = shell("sleep 1000");
    spec.store(&dir).expect("a writable disk");
    disk.fill();
    // Room for the reserved exit record and nothing else.
    std::fs::File::options()
        .write(true)
        .open(disk.path().join("ballast"))
        .and_then(|file| file.set_len(file.metadata()?.len() - (16 << 10)))
        .expect("the ballast can shrink");
    let mut shim = crate::support::launch(&dir);
    let status = wait_for("end of the shim", || {
        shim.try_wait().expect("the shim is our child")
    });
    assert!(status.success());
    let Ok(Adoption::Exited(exit)) = adopt::inspect(&dir) else {
        panic!("the failed start is on record");
    };
    assert_eq!(exit.cause, ExitCause::StartFailed);
    let reason = exit.start_error.expect("a reason");
    assert!(
        reason.ends_with("No space left on device (os error 28)"),
        "{reason}"
    );
}
