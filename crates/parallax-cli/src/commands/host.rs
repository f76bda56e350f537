//! `parallax host`: runs agents for a server elsewhere.

#[cfg(target_os = "linux")]
pub(crate) mod start;

use std::path::PathBuf;

use anyhow::Result;
use parallax_core::name::Name;

use super::serve::{HostOptions, LogOptions};
use crate::context::Context;

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The host's name [default: the machine's]
    #[arg(long)]
    pub(crate) name: Option<Name>,
    /// A file with the token that `parallax hosts token` printed; needed the first time only
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Read the token from standard input
    #[arg(long, conflicts_with = "token_file")]
    pub(crate) token_stdin: bool,
    #[command(flatten)]
    pub(crate) local: HostOptions,
    #[command(flatten)]
    pub(crate) logging: LogOptions,
}

/// Runs until a signal ends it.
#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    start::run(args, context)
}

/// Refuses.
#[cfg(not(target_os = "linux"))]
pub(crate) fn run(_: Args, _: &Context) -> Result<()> {
    super::linux_only("host")
}
