//! The server's life, from its claim on the data directory to the last replica.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use parallax_runtime::{CredentialSource, Host, Stop};
use parallax_server::app::Limits;
use parallax_server::{Config, Plaintext, Server, Tls};

use super::signals::{Ending, Signals};
use super::{Args, LogFormat, logging};
use crate::commands::host::start;
use crate::context::Context;
use crate::exit::{Ended, Exit};
use crate::format;
use crate::output::{Output, chain};
use crate::running::{Claim, Role, Running};

/// Replicas get their own grace, of 15 seconds unless they say otherwise, and this is its limit.
const REPLICAS_DEADLINE: Duration = Duration::from_secs(40);
/// For requests in hand, after the replicas have ended.
const REQUESTS_DEADLINE: Duration = Duration::from_secs(10);
/// Before the server's own host takes its place back from another one with its credential: rarely
/// enough that agents are not moved to and fro, should both insist.
const SUPERSEDED_WAIT: Duration = Duration::from_secs(60);
/// The name of the host that comes with the server.
const LOCAL_HOST: &str = "local";

/// Serves until a signal ends it.
pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    let claim = Claim::take(&context.data_dir, Role::Server)?;
    crate::commands::server(async {
        let _logs = logging::init(&args.logging, &context.output)?;
        serve(args, context, claim).await
    })
}

async fn serve(args: Args, context: &Context, claim: Claim) -> Result<()> {
    let mut signals = Signals::catch()?;
    let server = Server::start(config(&args, &context.data_dir)).await?;
    let running = Running {
        url: server.url.clone(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: format::now(),
    };
    claim.announce(&running)?;
    let mut greeted = welcome(&server, context);
    let mut life = Life { server, host: None };
    if !args.no_local_host {
        match local_host(&life.server, &args, context).await {
            Ok(host) => life.host = Some(host),
            Err(error) => {
                life.end(Ending::LeaveReplicas).await?;
                return Err(error.context("the host for agents on this machine cannot start"));
            }
        }
    }
    greeted = greeted.and_then(|()| invite(life.host.as_ref(), context));
    if let Err(error) = greeted {
        // Whoever started it does not listen, and may yet call it.
        tracing::warn!(error = chain(&error), "standard output is closed");
    }
    let (ending, failure) = tokio::select! {
        ending = signals.next() => (ending, None),
        why = life.server.failed() => (Ending::LeaveReplicas, Some(why)),
    };
    say(ending, args.logging.log_format, &context.output);
    let Some(ended) = signals.unless_interrupted(life.end(ending)).await else {
        let message = "interrupted again while stopping; `parallax down` stops what is left";
        return Err(Ended::new(Exit::Failed, message).into());
    };
    ended?;
    match failure {
        Some(why) => anyhow::bail!("the server had to stop: {why}"),
        None => Ok(()),
    }
}

fn config(args: &Args, data_dir: &Path) -> Config {
    let tls = args.tls_cert.clone().zip(args.tls_key.clone());
    let mut limits = Limits::default();
    limits.build_deadline = args.local.build_timeout.unwrap_or(limits.build_deadline);
    limits.replica_credential_ttl = args.credential_ttl.unwrap_or(limits.replica_credential_ttl);
    limits.host_credential_ttl = args.host_credential_ttl;
    Config {
        limits,
        listen: args.listen,
        database: args.database.clone(),
        tls: tls.map(|(cert, key)| Tls { cert, key }),
        plaintext: match (args.insecure_plaintext, args.behind_proxy) {
            (true, _) => Plaintext::Insecure,
            (false, true) => Plaintext::BehindProxy,
            (false, false) => Plaintext::LoopbackOnly,
        },
        ..Config::new(data_dir)
    }
}

/// What a person needs to go on. The administration key is shown this once.
fn welcome(server: &Server, context: &Context) -> Result<()> {
    let output = &context.output;
    let dir = context.data_dir.display();
    output.line(format_args!("Parallax is up at {}", server.url))?;
    if let Some(key) = &server.new_admin_key {
        output.line(format_args!("Admin key, shown this once: {}", key.reveal()))?;
        output.line(format_args!(
            "It is kept in {dir}/admin.key, where commands on this machine find it."
        ))?;
    }
    output.line(format_args!("Data: {dir}"))
}

/// What comes next.
fn invite(host: Option<&Host>, context: &Context) -> Result<()> {
    let (output, parallax) = (&context.output, context.command());
    let Some(host) = host else {
        output.line("No agent runs on this machine: hosts join from elsewhere.")?;
        return output.line(format_args!("Make a token for one: {parallax} hosts token"));
    };
    let (isolation, limits) = host
        .means()
        .split_once('+')
        .unwrap_or_else(|| (host.means(), ""));
    match isolation {
        "none" => output.line(format_args!(
            "No agent runs on this machine: nothing here keeps them apart. See: {parallax} doctor"
        ))?,
        "none (unsafe)" => output.line(format_args!(
            "Agents on this machine are not kept apart, and limited by {limits}."
        ))?,
        _ => output.line(format_args!(
            "Agents on this machine are kept apart by {isolation}, and limited by {limits}."
        ))?,
    }
    output.line(format_args!(
        "Deploy one from its folder, in another terminal: {parallax} deploy DIR"
    ))?;
    output.line("Ctrl-C stops the server and its agents.")
}

async fn local_host(server: &Server, args: &Args, context: &Context) -> Result<Host> {
    let keep_at = context.data_dir.join(start::CREDENTIAL_FILE);
    let kept = match fs::read_to_string(&keep_at) {
        Ok(credential) => server.lets_in(credential.trim()).await?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(error).context("reading the host's credential"),
    };
    let credential = if kept {
        CredentialSource::File(keep_at)
    } else {
        // One that has expired, or was revoked, lets nobody in any more.
        match fs::remove_file(&keep_at) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context("removing the host's old credential");
            }
            _ => {}
        }
        let token = server.local_join_token().await?;
        CredentialSource::Join {
            token: token.reveal().to_owned(),
            keep_at,
        }
    };
    let name = LOCAL_HOST.parse().expect("it is a DNS label");
    let url = server.local_url.clone();
    let mut config = start::config(url, name, credential, &args.local, context)?;
    // The server must go on, and whoever has copied its host's credential ends when it is back.
    config.superseded_wait = Some(SUPERSEDED_WAIT);
    Ok(Host::start(config).await?)
}

/// What must be ended in order.
struct Life {
    server: Server,
    host: Option<Host>,
}

impl Life {
    /// The host first: its replicas finish their tasks while the server still takes the answers.
    async fn end(self, ending: Ending) -> Result<()> {
        let stopped = match self.host {
            Some(host) => host.stop(stop(ending)).await,
            None => Ok(()),
        };
        self.server.shutdown(REQUESTS_DEADLINE).await;
        stopped.context("not every replica has ended")
    }
}

/// What the host is to do with its replicas.
pub(crate) fn stop(ending: Ending) -> Stop {
    match ending {
        Ending::StopAll => Stop::StopAll {
            deadline: REPLICAS_DEADLINE,
        },
        Ending::LeaveReplicas => Stop::LeaveReplicas,
    }
}

/// Tells the person at the terminal what happens now, or the program that reads the log.
pub(crate) fn say(ending: Ending, format: LogFormat, output: &Output) {
    let words = match ending {
        Ending::StopAll => "Stopping: replicas finish their tasks. Ctrl-C again stops waiting.",
        Ending::LeaveReplicas => "Stopping; replicas go on and are taken over at the next start.",
    };
    match format {
        LogFormat::Text => output.note(words),
        LogFormat::Json => tracing::info!("{words}"),
    }
}
