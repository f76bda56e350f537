//! The project's own tools; `cargo xtask help` lists them.

#![expect(
    unreachable_pub,
    reason = "a binary has no outside; `pub` marks what other modules use"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod cache;
mod ci;
mod codegen;
mod config;
mod demo;
mod process;
mod steps;
mod test;
mod tidy;
mod vendor;

use config::Config;
use process::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Parallax's own tools")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure, each figure beside its floor
    Bench(bench::Args),
    /// Everything that a change has to pass
    Ci(ci::Args),
    /// Regenerate committed generated code
    Codegen {
        /// Fail when the committed code is stale, write nothing
        #[arg(long)]
        check: bool,
    },
    /// Start the product, deploy the examples, call and scale them
    Demo(demo::Args),
    /// Run every test, and count the skipped ones
    Test(test::Args),
    /// Check the repository's own rules: arrows, budgets, orphans, environment, paths
    Tidy,
    /// Copy the built SDKs into the examples
    Vendor,
}

#[expect(clippy::print_stderr, reason = "errors go to standard error")]
fn main() -> ExitCode {
    let args = Args::parse();
    let workspace = Workspace {
        root: repository_root(),
        config: Config::from_env(),
    };
    match dispatch(&workspace, args.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<steps::Reported>() => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(workspace: &Workspace, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Bench(args) => bench::run(workspace, &args),
        Command::Ci(args) => ci::run(workspace, &args),
        Command::Codegen { check } => codegen::run(workspace, check).map(drop),
        Command::Demo(args) => demo::run(workspace, &args),
        Command::Test(args) => test::run(workspace, &args),
        Command::Tidy => tidy::run(workspace),
        Command::Vendor => vendor::run(workspace),
    }
}

fn repository_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies one folder below the root")
        .to_owned()
}
