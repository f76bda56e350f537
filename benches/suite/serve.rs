//! `serve`: what the server costs before anyone uses it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use benches::report::{Figure, Promise, Unit};
use benches::sample::interleaved;

use parallax_shim::client::Client;
use parallax_shim::record::StateRecord;
use parallax_shim::spec::{Isolation, LogLimits, Rlimits, SPEC_VERSION, ShimSpec};
use parallax_shim::wire::Request;

use super::process::{Server, memory};
use super::{Report, Subject};

const BENCH: &str = "serve";
const ROUNDS: usize = 11;
/// A person who restarts the server does not notice it.
const READY_MS: f64 = 150.0;
/// What a laptop can give to something that idles.
const IDLE_BYTES: f64 = 40.0 * 1024.0 * 1024.0;

/// Memory that has not changed for this long is what an idle server has.
const SETTLE: Duration = Duration::from_millis(300);
const SETTLE_DEADLINE: Duration = Duration::from_secs(20);

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
            resident.push(idle_bytes(subject, &server, &data)?);
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
    report(shim_pss(subject, dir.path())?);
    Ok(())
}

/// What the server holds once its own host has joined and nothing grows any more.
fn idle_bytes(subject: &Subject, server: &Server, data: &Path) -> Result<f64> {
    let started = Instant::now();
    while started.elapsed() < SETTLE_DEADLINE {
        let before = server.resident_bytes()?;
        thread::sleep(SETTLE);
        if has_host(subject, server, data)? && server.resident_bytes()? == before {
            return Ok(before as f64);
        }
    }
    bail!("the server did not come to rest within {SETTLE_DEADLINE:?}")
}

fn has_host(subject: &Subject, server: &Server, data: &Path) -> Result<bool> {
    let mut command = Command::new(&subject.binary);
    command.args(["hosts", "--json", "--server", &server.url]);
    command.env("PARALLAX_API_KEY_FILE", data.join("admin.key"));
    let output = command.output().context("asking for the hosts")?;
    if !output.status.success() {
        bail!(
            "`parallax hosts` failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).contains("\"connected\":true"))
}

/// What it costs to have one more replica beside its own process: the shim that owns it.
fn shim_pss(subject: &Subject, dir: &Path) -> Result<Figure> {
    let mut sizes = Vec::new();
    for round in 0..ROUNDS {
        sizes.push(one_shim(
            &subject.binary,
            &dir.join(format!("shim-{round}")),
        )?);
    }
    let conditions = &subject.conditions;
    let unit = Unit::Bytes;
    Ok(Figure::plain(
        BENCH,
        "shim_pss",
        unit,
        &sizes,
        Promise::None,
        conditions,
    ))
}

fn one_shim(binary: &Path, dir: &Path) -> Result<f64> {
    let spec = ShimSpec {
        version: SPEC_VERSION,
        argv: vec!["sleep".to_owned(), "1000".to_owned()],
        env: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
        cwd: "/".into(),
        stop_grace_ms: 1000,
        // Should this bench be killed, nothing is left behind for long.
        deadline_ms: Some(60_000),
        log: LogLimits::default(),
        cgroup_dirs: Vec::new(),
        rlimits: Rlimits::default(),
        isolation: Isolation::None,
    };
    std::fs::create_dir(dir).context("making the shim's folder")?;
    spec.store(dir).context("writing the shim's order")?;
    let mut command = Command::new(binary);
    command.arg("shim").arg(dir).stdin(Stdio::null());
    let mut shim = command.spawn().context("starting a shim")?;
    let started = Instant::now();
    while StateRecord::load(dir)?.is_none() {
        if started.elapsed() > SETTLE_DEADLINE {
            bail!("a shim did not start within {SETTLE_DEADLINE:?}");
        }
        thread::sleep(SETTLE / 10);
    }
    let bytes = memory(shim.id(), "smaps_rollup", "Pss")?;
    Client::connect(dir, SETTLE_DEADLINE)?.ask(&Request::Kill)?;
    shim.wait().context("waiting for the shim")?;
    Ok(bytes as f64)
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
