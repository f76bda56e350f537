//! `cargo xtask bench [NAME…] [--json]`: builds the product and the benches with optimisations and
//! runs the benches by name. What they measure lives in `benches/`.

use anyhow::Result;

use crate::process::{Workspace, run as run_command};

/// The command line of `bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which benches; all when none is named
    names: Vec<String>,
    /// One object a line instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the benches; their exit code says whether every promised figure was met.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let mut build = workspace.cargo();
    build.args(["build", "--release", "--package", "parallax-cli", "--bins"]);
    if args.json {
        build.arg("--quiet");
    }
    run_command(&mut build)?;
    let mut floor = workspace.cargo();
    floor.args(["build", "--release", "--package", "parallax-store"]);
    floor.args(["--example", "task_commits"]);
    if args.json {
        floor.arg("--quiet");
    }
    run_command(&mut floor)?;
    let mut bench = workspace.cargo();
    bench.args(["bench", "--package", "benches", "--bench", "parallax-bench"]);
    if args.json {
        bench.arg("--quiet");
    }
    bench.arg("--").args(&args.names);
    bench.arg("--binary");
    bench.arg(workspace.built("release/parallax"));
    bench.arg("--commits");
    bench.arg(workspace.built("release/examples/task_commits"));
    if args.json {
        bench.arg("--json");
    }
    run_command(&mut bench)
}
