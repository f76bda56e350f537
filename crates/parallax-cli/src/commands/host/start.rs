//! A host's life, and how one is configured.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context as _, Result};
use parallax_core::name::Name;
use parallax_runtime::{CredentialSource, Host, HostConfig, Stop};

use super::Args;
use crate::commands::serve::signals::Signals;
use crate::commands::serve::{HostOptions, logging, serving};
use crate::config::build_variables;
use crate::context::Context;
use crate::exit::{Ended, Exit};
use crate::format;
use crate::running::{Claim, Role, Running};

/// Where a host keeps the credential that its token was traded for.
pub(crate) const CREDENTIAL_FILE: &str = "host.key";

/// Runs a host until a signal ends it.
pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    let Some(url) = context.globals.server.clone() else {
        let message = "a host works for a server: name it with --server URL or PARALLAX_URL";
        return Err(Ended::new(Exit::Usage, message).into());
    };
    crate::client::address(&url)?;
    let claim = Claim::take(&context.data_dir, Role::Host)?;
    let credential = credential(&args, &context.data_dir)?;
    let name = match args.name {
        Some(name) => name,
        None => machine_name()?,
    };
    let config = config(url.clone(), name.clone(), credential, &args.local, context)?;
    let logging = args.logging;
    crate::commands::server(async move {
        let _logs = logging::init(&logging, &context.output)?;
        let mut signals = Signals::catch()?;
        let host = Host::start(config).await?;
        claim.announce(&Running {
            url: url.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: format::now(),
        })?;
        let output = &context.output;
        let refused = async {
            match host.ready().await {
                Ok(()) => output.line(format_args!("Host `{name}` works for {url}"))?,
                Err(error) => return Err(Ended::new(Exit::Denied, error.to_string()).into()),
            }
            let superseded = host.superseded().await;
            let message = format!(
                "{superseded}. What ran here goes on without a host; `{} down` stops it",
                context.command()
            );
            Err::<(), anyhow::Error>(Ended::new(Exit::Denied, message).into())
        };
        let ending = tokio::select! {
            ending = signals.next() => ending,
            refused = refused => {
                // It has never worked, or another one works in its place: it has no say in what is
                // to be stopped.
                host.stop(Stop::LeaveReplicas).await?;
                return refused;
            }
        };
        serving::say(ending, logging.log_format, output);
        let stopping = host.stop(serving::stop(ending));
        match signals.unless_interrupted(stopping).await {
            Some(stopped) => stopped.context("not every replica has ended"),
            None => {
                let message =
                    "interrupted again while stopping; `parallax down` stops what is left";
                Err(Ended::new(Exit::Failed, message).into())
            }
        }
    })
}

/// A host's configuration from what `serve` and `host` have in common.
///
/// # Errors
/// When a file cannot be read, or this program cannot be found.
pub(crate) fn config(
    url: String,
    name: Name,
    credential: CredentialSource,
    options: &HostOptions,
    context: &Context,
) -> Result<HostConfig> {
    let program =
        std::env::current_exe().context("finding this program, which is each replica's shim")?;
    let path = context.environment.path.clone();
    let mut config = HostConfig::new(url, context.host_dir(), name, credential, program, path);
    if let Some(file) = &context.globals.ca_file {
        let pem = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        config.ca_pem = Some(pem);
    }
    config.labels = options.labels.iter().cloned().collect();
    config.max_replicas = options.max_replicas.unwrap_or(config.max_replicas);
    config.unsafe_no_isolation = options.unsafe_no_isolation;
    config.isolation = options.isolation;
    config.build_timeout = options.build_timeout;
    config.protected_paths = vec![context.data_dir.clone()];
    config.build_env = build_variables(&options.build_env);
    Ok(config)
}

/// The credential of an earlier start, or else the token that was given.
fn credential(args: &Args, data_dir: &Path) -> Result<CredentialSource> {
    let keep_at = data_dir.join(CREDENTIAL_FILE);
    let token = match &args.token_file {
        Some(file) => {
            fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?
        }
        None if args.token_stdin => {
            let mut token = String::new();
            let read = io::stdin().lock().read_to_string(&mut token);
            read.context("reading the token from standard input")?;
            token
        }
        None if fs::exists(&keep_at).context("looking for the host's credential")? => {
            return Ok(CredentialSource::File(keep_at));
        }
        None => {
            let message = "this host has not joined yet: make a token on the server with \
                           `parallax hosts token`, and pass it with --token-file or --token-stdin";
            return Err(Ended::new(Exit::Usage, message).into());
        }
    };
    let token = token.trim().to_owned();
    if token.is_empty() {
        return Err(Ended::new(Exit::Usage, "the token is empty").into());
    }
    Ok(CredentialSource::Join { token, keep_at })
}

/// The machine's name, as far as it is a name here.
fn machine_name() -> Result<Name> {
    let system = rustix::system::uname();
    let full = system.nodename().to_string_lossy().to_ascii_lowercase();
    let first = full.split('.').next().unwrap_or_default();
    let fitting = first.replace('_', "-");
    fitting.parse().map_err(|error| {
        let message = "the machine's name does not do as the host's; pass --name";
        let error: parallax_core::name::NameError = error;
        Ended::new(Exit::Usage, message).caused_by(error).into()
    })
}
