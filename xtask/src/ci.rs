//! `cargo xtask ci [--full]`: everything that a change has to pass, with the time of each part.

use anyhow::Result;

use crate::process::{Workspace, run as run_command};
use crate::steps::{Reported, Steps, say};
use crate::test::counts::Counts;
use crate::{codegen, demo, test, tidy};

/// The command line of `ci`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Add the long fault seeds and the licence check
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
    steps.run("demo --once", || demo::run(workspace, &demo::Args::once()))
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let mut clippy = workspace.cargo();
    clippy.args(["clippy", "--workspace", "--all-targets"]);
    run_command(clippy.args(["--", "--deny", "warnings"]))
}

/// Licences, bans and sources; advisories change without a change of ours and do not block.
fn deny(workspace: &Workspace) -> Result<Counts> {
    let mut counts = Counts::default();
    if workspace.which("cargo-deny").is_none() {
        counts.skip("cargo deny", "cargo-deny is not installed");
        return Ok(counts);
    }
    let mut deny = workspace.cargo();
    run_command(deny.args(["deny", "check", "licenses", "bans", "sources"]))?;
    Ok(counts)
}
