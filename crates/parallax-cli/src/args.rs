//! The command line.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand};

use crate::commands::{
    agents, delete, deploy, down, host, hosts, invoke, keys, logs, plan, redeploy, reference,
    registry, scale, serve, status, tasks,
};
use crate::exit::Exit;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold());

/// For whoever has just built it.
const BEGINNING: &str = "\
To begin, start a server in one terminal, and in another deploy an agent from its folder:
  parallax serve
  parallax deploy DIR
  parallax invoke NAME CAPABILITY '{\"some\": \"JSON\"}'";

/// For `--help` and the reference: one code a line.
pub(crate) fn exit_codes() -> String {
    let lines = Exit::ALL.map(|exit| format!("  {:<3}  {}", exit as u8, exit.meaning()));
    format!("Exit codes:\n{}", lines.join("\n"))
}

/// Hosts and orchestrates AI agents
#[derive(Debug, Parser)]
#[command(
    name = "parallax",
    version,
    styles = STYLES,
    propagate_version = true,
    after_help = format!("{BEGINNING}\n\n{}", exit_codes())
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// The server to talk to; without it, the one that runs in the data directory
    #[arg(
        long,
        global = true,
        env = "PARALLAX_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) server: Option<String>,
    /// Where `serve` and `host` keep everything, and where clients find the local server and its
    /// key [default: $XDG_DATA_HOME/parallax or ~/.local/share/parallax; ./.parallax without a home]
    #[arg(
        long,
        global = true,
        env = "PARALLAX_DATA_DIR",
        hide_env_values = true,
        value_name = "DIR"
    )]
    pub(crate) data_dir: Option<PathBuf>,
    /// A file that holds the API key [default: DIR/admin.key]
    #[arg(
        long,
        global = true,
        env = "PARALLAX_API_KEY_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Certificates (PEM) that the server's must be signed by, instead of the system's
    #[arg(
        long,
        global = true,
        env = "PARALLAX_CA_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(crate) ca_file: Option<PathBuf>,
    /// Answer in JSON, for programs: one object, or one a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// No colours; NO_COLOR in the environment does the same
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server, with a host for agents on this machine
    Serve(Box<serve::Args>),
    /// Run a host that takes agents for a server elsewhere
    Host(Box<host::Args>),
    /// Deploy the agent in a folder
    Deploy(deploy::Args),
    /// Show how the agent in a folder would be built and started, without a server
    Plan(plan::Args),
    /// List agents
    Agents(agents::Args),
    /// Show how an agent is, with its replicas and builds
    Status(status::Args),
    /// Set how many replicas of an agent run
    Scale(scale::Args),
    /// Show what an agent writes
    Logs(logs::Args),
    /// Call an agent
    Invoke(invoke::Args),
    /// List, show, cancel and follow durable tasks
    Tasks(tasks::Args),
    /// Replace an agent's replicas by new ones from the same source
    Redeploy(redeploy::Args),
    /// Delete an agent and everything of it
    Delete(delete::Args),
    /// List the agents that are connected now, hosted here or elsewhere
    Registry(registry::Args),
    /// List hosts, or make a token with which one joins
    Hosts(hosts::Args),
    /// List, create and revoke API keys
    Keys(keys::Args),
    /// Examine what this machine can do for agents
    Doctor,
    /// Stop the local server and everything that it runs
    Down(down::Args),
    /// Print a script that completes commands in a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the HTTP API as an OpenAPI document
    #[command(hide = true)]
    Openapi,
    /// Write the generated pages of the reference
    #[command(hide = true)]
    DocsReference(reference::Args),
}
