//! `parallax hosts`: what runs agents, and how more of it joins.

use anyhow::Result;
use parallax_api::hosts::{HostView, JoinToken};
use reqwest::Method;

use crate::client::Api;
use crate::context::Context;
use crate::format;
use crate::output::Output;

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Hosts, connected or not (also without a subcommand)
    List,
    /// Make a token with which one host joins: see `parallax host`
    Token,
}

/// Lists hosts or makes a token.
pub(crate) async fn run(args: Args, context: &Context) -> Result<()> {
    let api = context.api()?;
    match args.action.unwrap_or(Action::List) {
        Action::List => list(&api, &context.output).await,
        Action::Token => token(&api, &context.output).await,
    }
}

async fn list(api: &Api, output: &Output) -> Result<()> {
    let hosts: Vec<HostView> = api.list(&["hosts"], &[], usize::MAX).await?;
    if output.json {
        return hosts.iter().try_for_each(|host| output.object(host));
    }
    let header = [
        "NAME",
        "CONNECTED",
        "KIND",
        "MACHINE",
        "ISOLATION",
        "LIMITS",
        "BUILDS",
    ];
    output.table(header, hosts.iter().map(row).collect())
}

fn row(host: &HostView) -> [String; 7] {
    let connected = match host.connected {
        true => "yes".to_owned(),
        false => format!("no, last seen {} ago", format::age(host.last_seen_at)),
    };
    let machine = format!(
        "{}/{}, {} cores, {}",
        host.os,
        host.arch,
        format::cores(host.cpu_millis),
        format::bytes(host.memory_bytes)
    );
    let isolation = match host.unsafe_no_isolation {
        true => format!("{} (unsafe)", host.isolation),
        false => host.isolation.clone(),
    };
    [
        host.name.clone(),
        connected,
        host.kind.clone(),
        machine,
        isolation,
        host.limits.clone(),
        host.builders.join(", "),
    ]
}

async fn token(api: &Api, output: &Output) -> Result<()> {
    let request = api.request(Method::POST, &["hosts", "token"]);
    let token: JoinToken = api.json(request).await?;
    if output.json {
        return output.object(&token);
    }
    output.line(&token.token)?;
    output.note(format_args!(
        "One host joins with it, within {}: parallax host --server URL --token-file FILE",
        format::span(std::time::Duration::from_secs(token.expires_in_s))
    ));
    Ok(())
}
