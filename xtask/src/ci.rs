//! `cargo xtask ci [--full]`: everything that a change has to pass, with the time of each part.

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::process::{Workspace, run as run_command};
use crate::steps::{Reported, Steps, say};
use crate::test::counts::Counts;
use crate::{codegen, demo, test, tidy};

/// The command line of `ci`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Add the long fault seeds, the licence check and the traces over OTLP
    #[arg(long)]
    full: bool,
}

/// Runs the parts in order and stops at the first that fails. The last line is the line of counts.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let mut steps = Steps::new("ci");
    let mut counts = Counts::default();
    let outcome = parts(workspace, args, &mut steps, &mut counts);
    steps.summary();
    test::report(&counts);
    let Err(error) = outcome else {
        say(&counts.to_string());
        return Ok(());
    };
    if counts.passed + counts.failed == 0 {
        return Err(error);
    }
    say(&format!("error: {error:#}"));
    say(&counts.to_string());
    Err(Reported.into())
}

fn parts(workspace: &Workspace, args: &Args, steps: &mut Steps, counts: &mut Counts) -> Result<()> {
    steps.run("fmt", || {
        run_command(workspace.cargo().args(["fmt", "--all", "--check"]))
    })?;
    steps.run("clippy", || clippy(workspace))?;
    steps.run("tidy", || tidy::run(workspace))?;
    if args.full {
        counts.add(steps.run("deny", || deny(workspace))?);
    }
    counts.add(steps.run("codegen --check", || codegen::run(workspace, true))?);
    let test_args = test::Args {
        full: args.full,
        ..test::Args::default()
    };
    counts.add(test::collect(workspace, &test_args, steps)?);
    test::verdict(counts)?;
    if args.full {
        steps.run("traces over OTLP", || traces(workspace))?;
    }
    steps.run("demo --once", || demo::run(workspace, &demo::Args::once()))
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let mut clippy = workspace.cargo();
    clippy.args(["clippy", "--workspace", "--all-targets"]);
    run_command(clippy.args(["--", "--deny", "warnings"]))
}

/// Licences, bans and sources; advisories change without a change of ours, need a database from
/// elsewhere, and do not block.
fn deny(workspace: &Workspace) -> Result<Counts> {
    let cache = Cache::open(&workspace.config)?;
    let tool = cache.once("tools-cargo-deny-0.20.2", |folder| {
        say("   installing cargo-deny 0.20.2");
        let mut install = workspace.cargo();
        install.args(["install", "cargo-deny", "--locked", "--version", "0.20.2"]);
        install.env("CARGO_TARGET_DIR", folder.join("target"));
        run_command(install.arg("--root").arg(folder))?;
        std::fs::remove_dir_all(folder.join("target")).context("removing what built cargo-deny")
    })?;
    let mut deny = workspace.command(tool.join("bin/cargo-deny"));
    run_command(deny.args(["--all-features", "check", "licenses", "bans", "sources"]))?;
    Ok(Counts::default())
}

/// Spans over OTLP, by a build of the product that sends them.
fn traces(workspace: &Workspace) -> Result<()> {
    let mut test = workspace.cargo();
    test.args([
        "test",
        "--package",
        "parallax-testkit",
        "--features",
        "otel",
    ]);
    run_command(test.args(["--test", "it", "traces::"]))?;
    let mut test = workspace.cargo();
    run_command(test.args([
        "test",
        "--package",
        "parallax-telemetry",
        "--features",
        "otel",
    ]))?;
    let mut clippy = workspace.cargo();
    clippy.args([
        "clippy",
        "--package",
        "parallax-telemetry",
        "--package",
        "parallax-cli",
    ]);
    run_command(clippy.args([
        "--all-targets",
        "--features",
        "otel",
        "--",
        "-D",
        "warnings",
    ]))
}
