//! A shim in a temporary folder, and waiting without guessing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use parallax_shim::client::Client;
use parallax_shim::log::{LogItem, LogReader, LogRecord, Stream};
use parallax_shim::record::{ExitRecord, StateRecord};
use parallax_shim::spec::{Isolation, LogLimits, Rlimits, SPEC_VERSION, ShimSpec};

/// The program that the tests start.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_shim-under-test");
/// Longer than anything takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn spec(argv: &[&str]) -> ShimSpec {
    ShimSpec {
        version: SPEC_VERSION,
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        cwd: PathBuf::from("/"),
        stop_grace_ms: 30_000,
        deadline_ms: None,
        log: LogLimits::default(),
        cgroup_dirs: Vec::new(),
        rlimits: Rlimits::default(),
        isolation: Isolation::None,
    }
}

pub(crate) fn shell(script: &str) -> ShimSpec {
    spec(&["sh", "-c", script])
}

/// A started shim. Ends it, and what it runs, when dropped.
#[derive(Debug)]
pub(crate) struct Shim {
    pub(crate) process: Child,
    dir: PathBuf,
    _folder: Option<tempfile::TempDir>,
}

impl Shim {
    pub(crate) fn start(spec: &ShimSpec) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut shim = Self::start_in(folder.path(), spec);
        shim._folder = Some(folder);
        shim
    }

    pub(crate) fn start_in(dir: &Path, spec: &ShimSpec) -> Self {
        spec.store(dir).expect("the folder is writable");
        Self {
            process: launch(dir),
            dir: dir.to_path_buf(),
            _folder: None,
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn state(&self) -> StateRecord {
        wait_for("state.json", || {
            StateRecord::load(&self.dir).expect("a readable state")
        })
    }

    /// Waits until the shim has ended.
    pub(crate) fn exit(&mut self) -> ExitRecord {
        let status = wait_for("end of the shim", || {
            self.process.try_wait().expect("the shim is our child")
        });
        assert!(status.success(), "shim: {status}: {}", self.complaint());
        ExitRecord::load(&self.dir)
            .expect("a readable record")
            .expect("a shim leaves a record")
    }

    /// What the shim itself wrote to standard error.
    pub(crate) fn complaint(&self) -> String {
        std::fs::read_to_string(self.dir.join(parallax_shim::STDERR_FILE)).unwrap_or_default()
    }

    pub(crate) fn client(&self) -> Client {
        self.state();
        Client::connect(&self.dir, PATIENCE).expect("the shim listens")
    }

    pub(crate) fn records(&self) -> Vec<LogRecord> {
        records(&self.dir)
    }

    /// The lines of one stream, partial records joined.
    pub(crate) fn lines(&self, stream: Stream) -> Vec<String> {
        let mut lines = Vec::new();
        let mut line = Vec::new();
        for record in self.records() {
            if record.stream == stream {
                line.extend_from_slice(&record.line);
                if !record.partial {
                    lines.push(String::from_utf8_lossy(&line).into_owned());
                    line.clear();
                }
            }
        }
        lines
    }

    /// Waits until the child has printed a line, and returns it.
    pub(crate) fn line(&self, number: usize) -> String {
        wait_for("line of output", || {
            self.lines(Stream::Out).get(number).cloned()
        })
    }

    pub(crate) fn kill_shim(&mut self) {
        self.process.kill().expect("the shim is our child");
        self.process.wait().expect("the shim is our child");
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        // A failed test must not leave anything behind either, whatever state it was in.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = parallax_shim::adopt::kill_leftovers(&self.dir);
    }
}

pub(crate) fn launch(dir: &Path) -> Child {
    Command::new(PROGRAM)
        .arg("shim")
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program was built with the tests")
}

pub(crate) fn records(dir: &Path) -> Vec<LogRecord> {
    LogReader::open(dir, 0)
        .expect("a readable log")
        .filter_map(|item| match item.expect("a readable log") {
            LogItem::Record(record) => Some(record),
            LogItem::Gap { .. } => None,
        })
        .collect()
}

/// Whether a process runs; one that waits to be reaped does not.
pub(crate) fn runs(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes()[0]);
    !matches!(state, None | Some(b'Z' | b'X'))
}

pub(crate) fn wait_until_gone(pid: u32) {
    wait_for("end of a process", || (!runs(pid)).then_some(()));
}

/// Says that this machine lacks what a test needs.
#[expect(
    clippy::print_stdout,
    reason = "the test runner shows it with the test"
)]
pub(crate) fn skipped(reason: &str) {
    println!("skipped: {reason}");
}
