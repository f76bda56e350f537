//! A hostile child behind each kind of wall.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use parallax_shim::isolation::{IsolationProbe, probe};
use parallax_shim::log::Stream;
use parallax_shim::spec::Isolation;

use crate::support::{PROGRAM, Shim, runs, shell, skipped, spec};

/// What programs need to start, and `/proc`, which an attacker would love.
fn system_paths() -> Vec<PathBuf> {
    let program = Path::new(PROGRAM)
        .parent()
        .expect("a program is in a folder");
    let system = ["/usr", "/bin", "/lib", "/lib64", "/etc", "/proc"].map(PathBuf::from);
    system
        .into_iter()
        .filter(|path| path.exists())
        .chain([program.to_path_buf()])
        .collect()
}

fn machine() -> Option<IsolationProbe> {
    let found = probe();
    if found.landlock_usable {
        return Some(found);
    }
    skipped(&format!(
        "no usable Landlock (version {})",
        found.landlock_abi
    ));
    None
}

/// A process that must not be touched, with a secret in its environment.
struct Victim(Child);

impl Victim {
    fn start() -> Self {
        let child = Command::new("sleep")
            .arg("1000")
            .env("SECRET", "do not read")
            .stdin(Stdio::null())
            .spawn()
            .expect("sleep is everywhere");
        Self(child)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // It may have fallen to the attack that the test is about.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the attacks from behind `isolation` and returns what became of each.
fn attack(isolation: Isolation) -> BTreeMap<String, String> {
    let victim = Victim::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "do not read").expect("a writable folder");
    let neighbour = Shim::start(&shell("sleep 1000"));
    neighbour.state();
    let mut spec = spec(&[
        PROGRAM,
        "attack",
        &victim.0.id().to_string(),
        secret
            .to_str()
            .expect("a temporary folder has a plain name"),
        neighbour
            .dir()
            .to_str()
            .expect("a temporary folder has a plain name"),
    ]);
    spec.isolation = isolation;
    let mut shim = Shim::start(&spec);
    let exit = shim.exit();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(runs(victim.0.id()), "the victim was killed");
    assert!(
        runs(neighbour.state().child_pid),
        "the neighbour was killed"
    );
    shim.lines(Stream::Out)
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(name, outcome)| (name.to_owned(), outcome.to_owned()))
        .collect()
}

fn outcomes(expected: &[(&str, &str)]) -> BTreeMap<String, String> {
    expected
        .iter()
        .map(|&(name, outcome)| (name.to_owned(), outcome.to_owned()))
        .collect()
}

const EPERM: &str = "1";
const EACCES: &str = "13";

#[test]
fn a_landlocked_child_of_the_same_user_can_reach_neither_files_nor_processes() {
    let Some(_) = machine() else { return };
    let found = attack(Isolation::Landlock {
        read_only: system_paths(),
        read_write: Vec::new(),
        uid: None,
        gid: None,
    });
    let mut expected = outcomes(&[
        ("read", EACCES),
        ("list", EACCES),
        ("environ", EACCES),
        ("write", EACCES),
        ("mount", EPERM),
        ("signal", EPERM),
        ("signal-parent", EPERM),
        ("ptrace", EPERM),
        ("prlimit", EPERM),
        ("kill-by-socket", EACCES),
    ]);
    // Staying user 0 without capabilities gains nothing; everybody else cannot become it.
    let own = if rustix::process::geteuid().is_root() {
        "ok"
    } else {
        EPERM
    };
    expected.insert("setuid".to_owned(), own.to_owned());
    assert_eq!(found, expected);
}

#[test]
fn a_landlocked_child_of_another_user_is_kept_out_twice() {
    let Some(found) = machine() else { return };
    if !found.can_change_uid {
        skipped("this user cannot become another");
        return;
    }
    let found = attack(Isolation::Landlock {
        read_only: system_paths(),
        read_write: Vec::new(),
        uid: Some(64_000),
        gid: None,
    });
    for attempt in ["signal", "signal-parent", "ptrace", "prlimit", "setuid"] {
        assert_eq!(found[attempt], EPERM, "{attempt}");
    }
    for attempt in ["read", "list", "environ", "write", "kill-by-socket"] {
        assert_eq!(found[attempt], EACCES, "{attempt}");
    }
}

#[test]
fn a_child_of_another_user_keeps_no_rights() {
    if !probe().can_change_uid {
        skipped("this user cannot become another");
        return;
    }
    let lines = rights(Isolation::Uid {
        uid: 64_000,
        gid: 64_001,
    });
    assert!(
        lines.contains(&"Uid: 64000 64000 64000 64000".to_owned()),
        "{lines:?}"
    );
    assert!(
        lines.contains(&"Gid: 64001 64001 64001 64001".to_owned()),
        "{lines:?}"
    );
    assert!(lines.contains(&"Groups:".to_owned()), "{lines:?}");
    check_no_rights(&lines);
}

#[test]
fn a_landlocked_child_keeps_no_capabilities() {
    let Some(_) = machine() else { return };
    let lines = rights(Isolation::Landlock {
        read_only: system_paths(),
        read_write: Vec::new(),
        uid: None,
        gid: None,
    });
    check_no_rights(&lines);
}

fn rights(isolation: Isolation) -> Vec<String> {
    let mut spec = spec(&[PROGRAM, "rights"]);
    spec.isolation = isolation;
    let mut shim = Shim::start(&spec);
    let exit = shim.exit();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    shim.lines(Stream::Out)
}

fn check_no_rights(lines: &[String]) {
    for expected in [
        "CapInh: 0000000000000000",
        "CapPrm: 0000000000000000",
        "CapEff: 0000000000000000",
        "CapAmb: 0000000000000000",
        "NoNewPrivs: 1",
        "Seccomp: 2",
        "fds [0, 1, 2]",
    ] {
        assert!(
            lines.contains(&expected.to_owned()),
            "{expected}: {lines:?}"
        );
    }
    if rustix::process::geteuid().is_root() {
        assert!(
            lines.contains(&"CapBnd: 0000000000000000".to_owned()),
            "{lines:?}"
        );
    }
}

#[test]
fn a_landlocked_child_can_use_what_it_was_given() {
    let Some(_) = machine() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = "echo a > f && mkdir d && mv f d/f && cat d/f && echo x > /dev/null \
                  && head -c 4 /dev/urandom | wc -c && sh -c 'kill -0 $PPID && echo kin'";
    let mut spec = shell(script);
    spec.cwd = folder.path().to_path_buf();
    spec.isolation = Isolation::Landlock {
        read_only: system_paths(),
        read_write: vec![folder.path().to_path_buf(), "/no/such/path".into()],
        uid: None,
        gid: None,
    };
    let mut shim = Shim::start(&spec);
    let exit = shim.exit();
    assert_eq!(exit.code, Some(0), "{:?}", shim.records());
    assert_eq!(shim.lines(Stream::Out), ["a", "4", "kin"]);
    assert_eq!(
        shim.lines(Stream::System)[0],
        "isolation: /no/such/path does not exist here and was left out"
    );
}

#[test]
fn a_landlocked_child_cannot_make_set_user_id_programs() {
    let Some(_) = machine() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = "cp /bin/true f; chmod 755 f && echo plain; chmod 4755 f || echo no suid; \
                  chmod g+s f || echo no sgid; mkdir -m 2755 d || echo no sgid folder; \
                  mkfifo -m 4644 p || echo no suid pipe; stat -c %a f";
    let mut spec = shell(script);
    spec.cwd = folder.path().to_path_buf();
    spec.isolation = Isolation::Landlock {
        read_only: system_paths(),
        read_write: vec![folder.path().to_path_buf()],
        uid: None,
        gid: None,
    };
    let mut shim = Shim::start(&spec);
    shim.exit();
    let expected = [
        "plain",
        "no suid",
        "no sgid",
        "no sgid folder",
        "no suid pipe",
        "755",
    ];
    assert_eq!(
        shim.lines(Stream::Out),
        expected,
        "{:?}",
        shim.lines(Stream::Err)
    );
}

#[test]
fn a_program_outside_the_allowed_paths_is_refused_with_a_hint() {
    let Some(_) = machine() else { return };
    let mut spec = spec(&["/bin/true"]);
    spec.isolation = Isolation::Landlock {
        read_only: Vec::new(),
        read_write: Vec::new(),
        uid: None,
        gid: None,
    };
    let exit = Shim::start(&spec).exit();
    assert_eq!(
        exit.start_error.as_deref(),
        Some(
            "cannot execute the program for the command \"/bin/true\" (is it executable, and \
             inside a path that the isolation allows?): Permission denied (os error 13)"
        )
    );
}

#[test]
fn a_child_in_bubblewrap_sees_only_what_it_was_given_and_stops_gracefully() {
    let found = probe();
    let Some(program) = found.bubblewrap else {
        skipped(&found.bubblewrap_refusal.unwrap_or_default());
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("secret"), "x").expect("a writable folder");
    let script = format!(
        "trap 'echo bye; exit 5' TERM; ls {}; kill -0 1 2>&1; sleep 1000 & wait",
        folder.path().display()
    );
    let mut spec = shell(&script);
    spec.isolation = Isolation::Bubblewrap {
        program,
        read_only: ["/usr", "/bin", "/lib", "/lib64", "/etc"]
            .map(PathBuf::from)
            .to_vec(),
        read_write: Vec::new(),
    };
    let mut shim = Shim::start(&spec);
    crate::support::wait_for("complaint of ls", || {
        (!shim.lines(Stream::Err).is_empty()).then_some(())
    });
    shim.client()
        .ask(&parallax_shim::wire::Request::Stop { grace_ms: None })
        .expect("an answer");
    let exit = shim.exit();
    assert_eq!(exit.code, Some(5), "{exit:?}");
    assert_eq!(shim.lines(Stream::Out), ["bye"]);
}

#[test]
fn a_probe_says_the_same_twice_and_agrees_with_what_a_shim_can_do() {
    let found = probe();
    assert_eq!(found, probe());
    let mut spec = shell("true");
    spec.isolation = Isolation::Landlock {
        read_only: system_paths(),
        read_write: Vec::new(),
        uid: None,
        gid: None,
    };
    let started = Shim::start(&spec).exit().start_error.is_none();
    assert_eq!(started, found.landlock_usable);
}
