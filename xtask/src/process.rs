//! Running other programs from the repository's root, with errors that name the command.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

use crate::config::Config;

/// The checkout and the environment that every command shares.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// The repository's root.
    pub root: PathBuf,
    /// The environment that xtask was started in.
    pub config: Config,
}

impl Workspace {
    /// A command that runs in the repository's root.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    /// A cargo command; in CI without incremental artefacts, which only cost space there.
    pub fn cargo(&self) -> Command {
        let program = self.config.cargo.clone();
        let mut command = self.command(program.unwrap_or_else(|| OsString::from("cargo")));
        if self.config.ci {
            command.env("CARGO_INCREMENTAL", "0");
            command.env("CARGO_TERM_PROGRESS_WHEN", "never");
        }
        command
    }

    /// Builds `debug/parallax` and returns its path.
    ///
    /// As part of the whole workspace, because features are unified over what is selected: a build
    /// of the one package and the tests of all would compile many crates twice.
    pub fn build_product(&self) -> Result<PathBuf> {
        run(self.cargo().args(["build", "--workspace", "--bins"]))?;
        Ok(self.built("debug/parallax"))
    }

    /// A path below cargo's target folder.
    pub fn built(&self, path: &str) -> PathBuf {
        let target = self.config.target_dir.clone();
        let target = target.unwrap_or_else(|| PathBuf::from("target"));
        self.root.join(target).join(path)
    }

    /// The full path of `program` when it lies in `PATH`.
    pub fn which(&self, program: &str) -> Option<PathBuf> {
        std::env::split_paths(&self.config.path)
            .map(|dir| dir.join(program))
            .find(|path| is_executable(path))
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Runs to the end with inherited output; a failure names the command and its status.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("starting `{}`", shown(command)))?;
    expect_success(command, status)
}

/// Runs to the end and returns standard output; standard error is passed through.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting `{}`", shown(command)))?;
    expect_success(command, output.status)?;
    Ok(output.stdout)
}

/// Runs to the end, echoing each line of standard output and handing it to `each`.
/// The exit status is the caller's to judge.
#[expect(clippy::print_stdout, reason = "a tool echoes what it runs")]
pub fn stream(command: &mut Command, mut each: impl FnMut(&str)) -> Result<ExitStatus> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting `{}`", shown(command)))?;
    let stdout = child.stdout.take().expect("stdout was piped above");
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.with_context(|| format!("reading from `{}`", shown(command)))?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        each(&line);
    }
    child
        .wait()
        .with_context(|| format!("waiting for `{}`", shown(command)))
}

fn expect_success(command: &Command, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    bail!("`{}` failed: {status}", shown(command))
}

/// The command as a person would type it.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let mut words = vec![name.to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned()),
    );
    words.join(" ")
}
