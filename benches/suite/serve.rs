//! `serve`: what the server costs before anyone uses it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use benches::report::{Figure, Promise, Unit};
use benches::sample::interleaved;

use super::process::Server;
use super::{Report, Subject};

const BENCH: &str = "serve";
const ROUNDS: usize = 11;
/// A person who restarts the server does not notice it.
const READY_MS: f64 = 150.0;
/// What a laptop can give to something that idles.
const IDLE_BYTES: f64 = 40.0 * 1024.0 * 1024.0;

/// Starts the server again and again on one existing database.
///
/// The floor of `ready_time` is the same binary printing its version: loading and linking alone.
pub(super) fn run(subject: &Subject, report: &mut Report<'_>) -> Result<()> {
    let dir = tempfile::tempdir().context("creating a temporary folder")?;
    let data = dir.path().join("data");
    stop(Server::start(&subject.binary, &data)?)?;
    let mut resident = Vec::new();
    let times = interleaved(
        ROUNDS,
        || -> Result<f64> {
            let server = Server::start(&subject.binary, &data)?;
            let ready = server.ready_after.as_secs_f64() * 1000.0;
            resident.push(server.resident_bytes()? as f64);
            stop(server)?;
            Ok(ready)
        },
        || version_ms(&subject.binary),
    )?;
    let conditions = &subject.conditions;
    let promise = Promise::ValueAtMost(READY_MS);
    let unit = Unit::Milliseconds;
    report(Figure::paired(
        BENCH,
        "ready_time",
        unit,
        &times,
        promise,
        conditions,
    ));
    let promise = Promise::ValueAtMost(IDLE_BYTES);
    report(Figure::plain(
        BENCH,
        "idle_rss",
        Unit::Bytes,
        &resident,
        promise,
        conditions,
    ));
    Ok(())
}

fn stop(server: Server) -> Result<()> {
    let status = server.stop()?;
    if status.success() {
        return Ok(());
    }
    bail!("the server ended with {status} after SIGTERM")
}

fn version_ms(binary: &Path) -> Result<f64> {
    let started = Instant::now();
    let mut command = Command::new(binary);
    command.arg("--version").stdin(Stdio::null());
    command.stdout(Stdio::null());
    let status = command.status().context("starting the floor")?;
    if !status.success() {
        bail!("`{} --version` ended with {status}", binary.display());
    }
    Ok(started.elapsed().as_secs_f64() * 1000.0)
}
