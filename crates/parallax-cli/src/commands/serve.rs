//! `parallax serve`: the server, with a host for agents on this machine.

#[cfg(target_os = "linux")]
pub(crate) mod logging;
#[cfg(target_os = "linux")]
pub(crate) mod serving;
#[cfg(target_os = "linux")]
pub(crate) mod signals;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use parallax_core::host::IsolationMeans;

use crate::context::Context;

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen; port 0 takes the port of last time, or another that is free
    #[arg(long, default_value = "127.0.0.1:7400", value_name = "ADDR:PORT")]
    pub(crate) listen: SocketAddr,
    /// A PostgreSQL database, as postgres://…, instead of SQLite in the data
    /// directory. One with a password belongs into PARALLAX_DATABASE: others see command lines
    #[arg(
        long,
        env = "PARALLAX_DATABASE",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) database: Option<String>,
    /// The certificate chain (PEM) to serve TLS with
    #[arg(long, requires = "tls_key", value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Let others reach this without TLS: keys and tasks cross the network in clear
    #[arg(long, conflicts_with_all = ["tls_cert", "behind_proxy"])]
    pub(crate) insecure_plaintext: bool,
    /// A proxy in front of this terminates TLS
    #[arg(long, conflicts_with = "tls_cert")]
    pub(crate) behind_proxy: bool,
    /// How long the credential of a hosted agent is good; it is replaced at half of that, without a
    /// pause [default: 1h]
    #[arg(long, value_parser = crate::commands::duration::parse_credential_ttl, value_name = "SPAN")]
    pub(crate) credential_ttl: Option<Duration>,
    /// How long the credential of a host is good; it is replaced at half of that, and a host that
    /// was away for longer joins again [default: no end]
    #[arg(long, value_parser = crate::commands::duration::parse_credential_ttl, value_name = "SPAN")]
    pub(crate) host_credential_ttl: Option<Duration>,
    /// Run no agents on this machine: hosts join from elsewhere
    #[arg(long)]
    pub(crate) no_local_host: bool,
    #[command(flatten)]
    pub(crate) local: HostOptions,
    #[command(flatten)]
    pub(crate) logging: LogOptions,
}

/// What `serve` and `host` let a person say of the host.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Agents on this machine")]
pub(crate) struct HostOptions {
    /// Run one tenant's agents although nothing on this machine keeps them apart
    #[arg(long)]
    pub(crate) unsafe_no_isolation: bool,
    /// Keep agents apart by this means, or not start: landlock, bubblewrap [default: the first that
    /// works; see `parallax doctor`]
    #[arg(long, value_name = "MEANS")]
    pub(crate) isolation: Option<IsolationMeans>,
    /// How long a build may take, such as 90s or 30m; a host that joins a server elsewhere is bound
    /// by that server's limit too [default: 20m]
    #[arg(long, value_parser = crate::commands::duration::parse, value_name = "SPAN")]
    pub(crate) build_timeout: Option<Duration>,
    /// How many replicas this machine takes
    #[arg(long, value_name = "N")]
    pub(crate) max_replicas: Option<u32>,
    /// A label, for people: `parallax hosts --json` shows it
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Give build steps this variable of the environment, besides proxies, certificates and
    /// registries
    #[arg(long, value_name = "NAME")]
    pub(crate) build_env: Vec<String>,
}

/// What is logged, and how.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Logging")]
pub(crate) struct LogOptions {
    /// How log lines are written, to standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// error, warn, info, debug, trace, or directives such as info,parallax_server=debug
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    pub(crate) log_level: String,
    /// Send traces to the OTLP collector that listens there over gRPC, such as
    /// http://127.0.0.1:4317
    #[cfg(feature = "otel")]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One object a line
    Json,
}

/// Not a label.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no label; write KEY=VALUE")]
struct LabelError(String);

fn label(text: &str) -> Result<(String, String), LabelError> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(LabelError(text.to_owned())),
    }
}

/// Serves until a signal ends it.
#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    serving::run(args, context)
}

/// Refuses.
#[cfg(not(target_os = "linux"))]
pub(crate) fn run(_: Args, _: &Context) -> Result<()> {
    super::linux_only("serve")
}
