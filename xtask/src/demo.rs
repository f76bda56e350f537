//! `cargo xtask demo [--once]`: the product's main job, end to end, on this machine.
//!
//! Starts `parallax serve` on its embedded default, deploys the examples from their folders through
//! the real API, calls each, scales one, shows logs and the fleet, and stays until Ctrl-C. With
//! `--once` it tears everything down, looks for anything left behind, and ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cache::Cache;
use crate::process::{Workspace, run as run_command};
use crate::steps::{Steps, say};
use crate::vendor;

mod leftovers;
mod server;

use server::Server;

/// How often the stop flag is looked at while the demo stays up: below what a person notices.
const STOP_POLL: Duration = Duration::from_millis(100);

/// The command line of `demo`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Tear everything down after the tour and end
    #[arg(long)]
    once: bool,
    /// Keep the server's data here instead of in a temporary folder
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where the server listens; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// Build with optimisations: slower to build, and what a measurement needs
    #[arg(long)]
    release: bool,
    /// Use this `parallax` instead of building one
    #[arg(long, conflicts_with = "release")]
    binary: Option<PathBuf>,
}

impl Args {
    /// What CI runs.
    pub fn once() -> Self {
        Self {
            once: true,
            listen: "127.0.0.1:0".to_owned(),
            ..Self::default()
        }
    }
}

/// One example and the call that shows what it does.
struct Tour {
    example: &'static str,
    capability: &'static str,
    input: &'static str,
}

const TOUR: [Tour; 2] = [
    Tour {
        example: "sentiment-scorer",
        capability: "score",
        input: r#"{"text":"The setup was painful, but support was wonderful and it has not failed once!"}"#,
    },
    Tour {
        example: "document-classifier",
        capability: "classify",
        input: r#"{"text":"Invoice 2041. Amount due: 1,250.00 EUR, payable within 30 days of the invoice date. Please quote the invoice number with your bank transfer."}"#,
    },
];

/// Runs the tour.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("catching signals")?;
    }
    let mut steps = Steps::new("demo");
    let outcome = tour(workspace, args, &stop, &mut steps);
    steps.summary();
    outcome
}

fn tour(workspace: &Workspace, args: &Args, stop: &AtomicBool, steps: &mut Steps) -> Result<()> {
    let binary = match &args.binary {
        Some(binary) => std::path::absolute(binary).context("resolving --binary")?,
        None => steps.run("build", || build(workspace, args.release))?,
    };
    let cache = Cache::open(&workspace.config)?;
    steps.run("vendor the SDKs", || vendor::vendor(workspace, &cache))?;
    let temporary = tempfile::Builder::new()
        .prefix("parallax-demo-")
        .tempdir()
        .context("creating a temporary folder")?;
    let data = match &args.data_dir {
        Some(dir) => std::path::absolute(dir).context("resolving --data-dir")?,
        None => temporary.path().join("data"),
    };
    let log = temporary.path().join("serve.log");
    let server = steps.run("start the server", || {
        Server::start(workspace, &binary, &data, &args.listen, &log, stop)
    })?;
    show(workspace, &server, stop, steps)?;
    if !args.once {
        // A part of its own: the total is not the tour's.
        steps.run("up until Ctrl-C", || stay(&server, &binary, stop))?;
    }
    steps.run("tear down", || {
        if args.once {
            server.down(workspace)?;
        } else {
            server.interrupt()?;
        }
        leftovers::none(&data)
    })?;
    temporary
        .close()
        .context("removing the demo's temporary folder")
}

/// Without optimisations unless asked: the build shares everything with the tests' and takes a
/// fraction of the time, and the demo shows behaviour, not speed.
fn build(workspace: &Workspace, release: bool) -> Result<PathBuf> {
    if !release {
        say("   without optimisations; `--release` adds them");
        return workspace.build_product();
    }
    let mut cargo = workspace.cargo();
    run_command(cargo.args(["build", "--release", "--package", "parallax-cli", "--bins"]))?;
    Ok(workspace.built("release/parallax"))
}

/// Deploys, calls, scales, and prints what a person would look at.
fn show(
    workspace: &Workspace,
    server: &Server,
    stop: &AtomicBool,
    steps: &mut Steps,
) -> Result<()> {
    let mut step = |name: String, args: &[&str]| -> Result<()> {
        if stop.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        steps.run(&name, || run_command(server.client(workspace).args(args)))
    };
    for Tour { example, .. } in &TOUR {
        let folder = workspace.root.join("examples").join(example);
        let folder = folder.to_string_lossy().into_owned();
        step(format!("deploy {example}"), &["deploy", &folder, "--wait"])?;
    }
    for tour in &TOUR {
        let call = ["invoke", tour.example, tour.capability, tour.input];
        step(format!("call {} {}", tour.example, tour.capability), &call)?;
    }
    let scaled = TOUR[0].example;
    step(
        format!("scale {scaled} from 1 to 3"),
        &["scale", scaled, "3", "--wait"],
    )?;
    step(format!("logs of {scaled}"), &["logs", scaled])?;
    step("the fleet".to_owned(), &["agents"])
}

/// Until Ctrl-C, SIGTERM, or the server's end.
fn stay(server: &Server, binary: &Path, stop: &AtomicBool) -> Result<()> {
    say("");
    say(&format!("Parallax is up at {}", server.url()));
    say("To call its agents, in another terminal:");
    say(&format!(
        "  export PARALLAX_DATA_DIR={}",
        server.data().display()
    ));
    for tour in &TOUR {
        say(&format!(
            "  {} invoke {} {} '{}'",
            binary.display(),
            tour.example,
            tour.capability,
            tour.input
        ));
    }
    say("Press Ctrl-C to stop it and everything that it runs.");
    while !stop.load(Ordering::Relaxed) {
        server.expect_running()?;
        thread::sleep(STOP_POLL);
    }
    say("");
    Ok(())
}
