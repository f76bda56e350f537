//! The commands, one file each.

pub(crate) mod agents;
pub(crate) mod delete;
pub(crate) mod deploy;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod host;
pub(crate) mod hosts;
pub(crate) mod invoke;
pub(crate) mod keys;
pub(crate) mod logs;
pub(crate) mod plan;
pub(crate) mod redeploy;
pub(crate) mod reference;
pub(crate) mod registry;
pub(crate) mod scale;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod tasks;

mod answer;
mod completions;
mod duration;
mod life;
mod openapi;

use std::future::Future;

use anyhow::{Context as _, Result};

use crate::args::Command;
use crate::context::Context;

/// Runs one command to its end.
///
/// # Errors
/// Whatever keeps the command from doing what it was told.
pub(crate) fn run(command: Command, context: &Context) -> Result<()> {
    match command {
        Command::Serve(args) => serve::run(*args, context),
        Command::Host(args) => host::run(*args, context),
        Command::Deploy(args) => client(deploy::run(args, context)),
        Command::Plan(args) => plan::run(&args, context),
        Command::Agents(args) => client(agents::run(args, context)),
        Command::Status(args) => client(status::run(args, context)),
        Command::Scale(args) => client(scale::run(args, context)),
        Command::Logs(args) => client(logs::run(args, context)),
        Command::Invoke(args) => client(invoke::run(args, context)),
        Command::Tasks(args) => client(tasks::run(args, context)),
        Command::Redeploy(args) => client(redeploy::run(args, context)),
        Command::Delete(args) => client(delete::run(args, context)),
        Command::Registry(args) => client(registry::run(args, context)),
        Command::Hosts(args) => client(hosts::run(args, context)),
        Command::Keys(args) => client(keys::run(args, context)),
        Command::Doctor => doctor::run(context),
        Command::Down(args) => down::run(&args, context),
        Command::Completions { shell } => completions::run(shell, context),
        Command::Openapi => openapi::run(context),
        Command::DocsReference(args) => reference::run(&args),
    }
}

/// A client does one thing at a time: one thread is enough.
fn client<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the async runtime")?;
    runtime.block_on(Box::pin(command))
}

/// For what runs agents.
#[cfg(target_os = "linux")]
fn server<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the async runtime")?;
    runtime.block_on(Box::pin(command))
}

/// The answer of commands that run agents, where none can be run.
#[cfg(not(target_os = "linux"))]
fn linux_only(command: &str) -> Result<()> {
    anyhow::bail!(
        "`parallax {command}` needs Linux: agents are kept apart by means of its kernel. \
         Client commands work here: name a server elsewhere with --server URL"
    )
}
