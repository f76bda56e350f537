//! The process that owns one replica: its output, its tree, its exit record.
//!
//! The host starts `parallax shim DIR` and forgets about it. Whatever happens to the host, the shim
//! goes on reading the replica's output into a rotated log, answers on a socket, and leaves a
//! durable record of the end. A host that comes back reads the folder and carries on:
//!
//! ```text
//!   host ── spec.json ──▶ DIR ◀── adopt::conclude ─ host after a restart
//!                          │
//!   client::connect ──▶ shim.sock        log/<first seq>.log ──▶ log::LogReader
//!                          │                    ▲
//!                       shim ── fork, isolation ┴─ stdout, stderr
//!                          │
//!                        child ── its whole tree (process group, cgroups, subreaper)
//!
//!   state.json once the child runs; exit.json, durable, before the shim ends
//! ```
//!
//! One thread, no async runtime: the shim forks, and a process that waits for months must stay small.

pub mod adopt;
pub mod cgroup;
pub mod client;
pub mod durable;
pub mod isolation;
pub mod log;
pub mod record;
pub mod spec;
pub mod wire;

mod procfs;
mod spawn;
mod supervise;
mod sys;
mod tree;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// The description of the replica, written by the host.
pub const SPEC_FILE: &str = "spec.json";
/// What became of the description when the host gave the start up; see [`adopt::conclude`].
pub const VOID_SPEC_FILE: &str = "spec.void.json";
/// Who runs the replica, written once its command has been executed.
pub const STATE_FILE: &str = "state.json";
/// How the replica ended, written before the shim ends.
pub const EXIT_FILE: &str = "exit.json";
/// The socket on which the shim answers.
pub const SOCKET_FILE: &str = "shim.sock";
/// The secret that a client of the socket shows; see [`client`].
pub const TOKEN_FILE: &str = "shim.token";
/// The folder of log segments.
pub const LOG_DIR: &str = "log";
/// What the shim itself has to say when it cannot go on (a panic, a spec that nobody can read).
pub const STDERR_FILE: &str = "shim.err";

/// Runs the shim of the incarnation folder `dir` until its replica has ended.
///
/// Must be called before any other thread starts: it closes every inherited descriptor above
/// standard error and forks. Succeeds when the end of the replica, whatever it was (also a command
/// that could not be started), is on disk in [`EXIT_FILE`].
pub fn main(dir: &Path) -> ExitCode {
    match supervise::run(dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::from(2)
        }
    }
}

fn report(error: &dyn std::error::Error) {
    let mut text = format!("parallax shim: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    // Standard error is the last resort: when it fails there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}
