//! Running the binary, in an environment of its own.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::OpenptFlags;
use rustix::termios::OptionalActions;
use serde_json::Value;
use tempfile::TempDir;

/// Everything here takes well under a second; a loaded machine may take its time.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// What would tell the binary of a server, a key or a folder that is not the test's.
const VARIABLES: [&str; 6] = [
    "PARALLAX_API_KEY_FILE",
    "PARALLAX_CA_FILE",
    "PARALLAX_DATABASE",
    "PARALLAX_URL",
    "XDG_DATA_HOME",
    "NO_COLOR",
];

/// A home of its own, and the binary.
#[derive(Debug)]
pub(crate) struct Home {
    dir: TempDir,
}

/// What a command has said and exited with.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Home {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("the temporary folder is writable");
        Self { dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The binary, which knows nothing of servers and keys that are not the test's.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parallax"));
        command
            .args(args)
            .env("HOME", self.dir.path())
            .env("PARALLAX_DATA_DIR", self.data())
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Said {
        said(self.command(args).output().expect("the binary starts"))
    }

    /// As [`Self::run`], with a terminal as standard output.
    pub(crate) fn run_on_terminal(&self, args: &[&str]) -> Said {
        let (mut terminal, screen) = terminal();
        let child = self
            .command(args)
            .stdout(screen)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut shown = Vec::new();
        let mut piece = [0; 4096];
        // A terminal's end is an error of its own: nobody holds the other side any more.
        while let Ok(length @ 1..) = terminal.read(&mut piece) {
            shown.extend_from_slice(&piece[..length]);
        }
        let mut output = child.wait_with_output().expect("it ends");
        output.stdout = shown;
        said(output)
    }

    /// Of a command that must succeed, the answer.
    pub(crate) fn answer(&self, args: &[&str]) -> String {
        let said = self.run(args);
        assert_eq!(said.code, Some(0), "{args:?}: {said:#?}");
        said.out
    }

    /// Of a command that must succeed, the answer in JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let answer = self.answer(&[&["--json"], args].concat());
        serde_json::from_str(&answer).expect("one JSON document")
    }

    /// A server without a host: these tests are about the command line.
    pub(crate) fn serve(&self, args: &[&str]) -> Serving {
        let fixed = ["serve", "--listen", "127.0.0.1:0", "--no-local-host"];
        self.stay(&[&fixed, args].concat(), "Data: ")
    }

    /// A host of a server elsewhere.
    pub(crate) fn host(&self, args: &[&str]) -> Serving {
        self.stay(&[&["host"], args].concat(), "Host ")
    }

    /// Starts what goes on, and reads what it says until the line that begins with `last`.
    pub(crate) fn stay(&self, args: &[&str], last: &str) -> Serving {
        let mut child = self
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let mut welcome = Vec::new();
        while !welcome.iter().any(|line: &String| line.starts_with(last)) {
            match lines.next() {
                Some(line) => welcome.push(line.expect("the welcome is text")),
                None => {
                    let output = child.wait_with_output().expect("it has ended");
                    panic!("it did not stay: {:#?}", said(output));
                }
            }
        }
        Serving { child, welcome }
    }

    /// Polls until it is so.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
            std::thread::sleep(POLL);
        }
    }

    /// A server whose standard output is closed from the start.
    pub(crate) fn serve_unread(&self) -> Serving {
        let args = ["serve", "--listen", "127.0.0.1:0", "--no-local-host"];
        let mut command = self.command(&args);
        let mut serving = Serving::of(command.stdout(Stdio::piped()).stderr(Stdio::null()));
        drop(serving.child.stdout.take());
        serving
    }
}

/// A terminal, and what a command writes to it. It changes nothing of what is written.
fn terminal() -> (File, OwnedFd) {
    let near = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    rustix::pty::grantpt(&near).expect("it is ours");
    rustix::pty::unlockpt(&near).expect("it is ours");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let name = rustix::pty::ptsname(&near, Vec::new()).expect("it has a name");
    let far = rustix::fs::open(name, flags, Mode::empty()).expect("its other side opens");
    let mut modes = rustix::termios::tcgetattr(&far).expect("it has modes");
    modes.make_raw();
    rustix::termios::tcsetattr(&far, OptionalActions::Now, &modes).expect("they can be set");
    (File::from(near), far)
}

pub(crate) fn said(output: Output) -> Said {
    Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("answers are text"),
        err: String::from_utf8(output.stderr).expect("remarks are text"),
    }
}

/// A server process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Serving {
    child: Child,
    pub(crate) welcome: Vec<String>,
}

impl Serving {
    /// A server whose welcome nobody reads.
    pub(crate) fn of(command: &mut Command) -> Self {
        Self {
            child: command.spawn().expect("the binary starts"),
            welcome: Vec::new(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn url(&self) -> &str {
        let line = &self.welcome[0];
        line.strip_prefix("Parallax is up at ")
            .expect("the first line says where")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.expect("the kernel gives out positive process ids");
        kill_process(pid, signal).expect("the server is ours");
    }

    pub(crate) fn ended(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            std::thread::sleep(POLL);
        }
        panic!("the server did not end");
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
