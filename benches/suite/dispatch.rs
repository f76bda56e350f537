//! `dispatch`: what it costs to reach an agent through the server.
//!
//! ```text
//!   product:  callers (this process) ──▶ parallax serve ──▶ 1,000 agents (one process)
//!   floor:    callers (this process) ──▶ a bare relay   ──▶ 1,000 agents (one process)
//! ```
//! Both stand at the same time and are asked in alternation; the one that is not asked idles.

mod agents;
mod callers;
mod durable;
mod http;
mod relay;
mod wire;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use benches::report::{Figure, Promise, Unit};
use benches::sample::{Paired, interleaved};
use parallax_api::keys::{CreateKey, CreatedKey};
use parallax_core::key::Scope;
use tokio::runtime::Runtime;

use super::helper::{Helper, Role};
use super::process::{self, Server};
use super::{Report, Subject};

pub(crate) use agents::run as agents;
pub(crate) use relay::run as relay;

use wire::Target;

const BENCH: &str = "dispatch";
/// Agents on each side.
const AGENTS: usize = 1000;
const ROUNDS: usize = 9;
/// A round of these starts processes anew.
const MEMORY_ROUNDS: usize = 7;
/// Calls before memory is measured: a few for each agent, so that every connection was used.
const EXERCISE: usize = 4096;

const THROUGHPUT_RATIO: f64 = 0.7;
const DURABLE_RATIO: f64 = 0.4;
const ADDED_MS: f64 = 0.3;
const AGENT_BYTES: f64 = 60.0 * 1024.0;

/// Measures the product beside the relay.
pub(super) fn run(subject: &Subject, report: &mut Report<'_>) -> Result<()> {
    let dir = tempfile::tempdir().context("creating a temporary folder")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let bench = Bench {
        subject,
        data: &dir.path().join("data"),
        runtime: &runtime,
    };
    let token = bench.mint_key()?;
    report(bench.memory(&token)?);
    let (server, relay) = (bench.server()?, relay_process()?);
    let product = Target::new(&server.url, &token);
    let floor = Target::new(&relay.1, &token);
    let mut agents = join(&product)?;
    let mut others = join(&floor)?;
    for figure in bench.attached(&product, &floor)? {
        report(figure);
    }
    durable::seen(&mut others)?;
    report(bench.durable(&product, &mut agents, &dir.path().join("raw.db"))?);
    let status = server.stop()?;
    if !status.success() {
        bail!("the server ended with {status} after SIGTERM");
    }
    Ok(())
}

struct Bench<'a> {
    subject: &'a Subject,
    data: &'a Path,
    runtime: &'a Runtime,
}

impl Bench<'_> {
    fn server(&self) -> Result<Server> {
        Server::start(&self.subject.binary, self.data)
    }

    /// A key that may both join as an agent and call; an administrator's may not join.
    fn mint_key(&self) -> Result<String> {
        let server = self.server()?;
        let file = self.data.join("admin.key");
        let admin = fs::read_to_string(&file).context("reading the administration key")?;
        let target = Target::new(&server.url, admin.trim());
        let wanted = CreateKey {
            name: "bench".to_owned(),
            scopes: vec![Scope::Agent, Scope::Invoke],
            groups: Vec::new(),
            expires_in_s: None,
        };
        let body = serde_json::to_string(&wanted)?;
        let answer = self
            .runtime
            .block_on(http::post(&target, "/api/keys", body))?;
        let created: CreatedKey = serde_json::from_slice(&answer)?;
        server.stop()?;
        Ok(created.secret)
    }

    /// Memory of the server and of the relay for each connected agent, each in a new process.
    fn memory(&self, token: &str) -> Result<Figure> {
        let samples = interleaved(
            MEMORY_ROUNDS,
            || {
                let server = self.server()?;
                let grown = self.growth(server.pid(), &Target::new(&server.url, token))?;
                server.stop()?;
                Ok(grown)
            },
            || {
                let (relay, url) = relay_process()?;
                self.growth(relay.pid(), &Target::new(&url, token))
            },
        )?;
        let promise = Promise::ValueAtMost(AGENT_BYTES);
        Ok(self.figure("agent_memory", Unit::Bytes, &samples, promise))
    }

    fn growth(&self, pid: u32, target: &Target) -> Result<f64> {
        let before = process::memory(pid, "status", "VmRSS")?;
        let mut agents = join(target)?;
        self.runtime.block_on(callers::exercise(target, EXERCISE))?;
        let after = process::memory(pid, "status", "VmRSS")?;
        durable::seen(&mut agents)?;
        Ok(after.saturating_sub(before) as f64 / AGENTS as f64)
    }

    fn attached(&self, product: &Target, floor: &Target) -> Result<[Figure; 3]> {
        let run = self.runtime;
        let full = interleaved(
            ROUNDS,
            || run.block_on(callers::throughput(product)),
            || run.block_on(callers::throughput(floor)),
        )?;
        let single = interleaved(
            ROUNDS,
            || run.block_on(callers::unloaded_ms(product)),
            || run.block_on(callers::unloaded_ms(floor)),
        )?;
        let http = interleaved(
            ROUNDS,
            || run.block_on(http::throughput(product)),
            || run.block_on(http::throughput(floor)),
        )?;
        let per_second = Unit::PerSecond;
        let promise = Promise::RatioAtLeast(THROUGHPUT_RATIO);
        let added = Promise::ValueAtMost(ADDED_MS);
        let conditions = &self.subject.conditions;
        let milliseconds = Unit::Milliseconds;
        Ok([
            self.figure("dispatch_throughput", per_second, &full, promise),
            Figure::added(
                BENCH,
                "dispatch_added_p50",
                milliseconds,
                &single,
                added,
                conditions,
            ),
            self.figure("dispatch_http_throughput", per_second, &http, Promise::None),
        ])
    }

    fn durable(&self, product: &Target, agents: &mut Helper, raw: &Path) -> Result<Figure> {
        let command = Command::new(&self.subject.commits);
        let (mut commits, _) = Helper::spawn(command, &raw)?;
        let samples = interleaved(
            ROUNDS,
            || self.runtime.block_on(durable::throughput(product, agents)),
            || durable::raw_commits(&mut commits),
        )?;
        let promise = Promise::RatioAtLeast(DURABLE_RATIO);
        let metric = "dispatch_durable_throughput";
        Ok(self.figure(metric, Unit::PerSecond, &samples, promise))
    }

    fn figure(
        &self,
        metric: &'static str,
        unit: Unit,
        samples: &Paired,
        promise: Promise,
    ) -> Figure {
        let conditions = &self.subject.conditions;
        Figure::paired(BENCH, metric, unit, samples, promise, conditions)
    }
}

impl Target {
    fn new(url: &str, token: &str) -> Self {
        Self {
            url: url.to_owned(),
            token: token.to_owned(),
        }
    }
}

/// A new relay and its URL.
fn relay_process() -> Result<(Helper, String)> {
    Helper::start(Role::Relay, &())
}

/// A new process with all agents, once each of them has joined.
fn join(target: &Target) -> Result<Helper> {
    let setup = agents::Setup {
        target: target.clone(),
        count: AGENTS,
    };
    Ok(Helper::start(Role::Agents, &setup)?.0)
}
