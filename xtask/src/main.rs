//! The project's own tools; `cargo xtask help` lists them.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Parser, Subcommand};

mod codegen;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Parallax's own tools")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Regenerate committed generated code
    Codegen {
        /// Fail when the committed code is stale, write nothing
        #[arg(long)]
        check: bool,
    },
}

fn main() -> Result<()> {
    let root = repository_root();
    match Args::parse().command {
        Command::Codegen { check } => codegen::run(&root, check),
    }
}

fn repository_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies one folder below the root")
        .to_owned()
}
