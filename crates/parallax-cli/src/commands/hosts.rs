//! `parallax hosts`: what runs agents, and how more of it joins.

use anyhow::Result;
use parallax_api::hosts::{HostView, JoinToken};
use reqwest::Method;

use crate::client::Api;
use crate::context::Context;
use crate::format;
use crate::output::{Output, Tone};
use crate::table::{Cell, Row};

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
    if hosts.is_empty() {
        output.note(
            "No host yet, so no agent can run. Make a token with `parallax hosts token`, and join \
             a machine with `parallax host`.",
        );
        return Ok(());
    }
    let header = [
        "NAME",
        "STATE",
        "LAST CONTACT",
        "KIND",
        "ISOLATION",
        "TIERS",
        "LIMITS",
    ];
    let rows: Vec<_> = hosts.iter().map(row).collect();
    output.table(header, &rows)
}

fn row(host: &HostView) -> Row<7> {
    let (state, contact) = match host.connected {
        true => (Cell::toned("connected", Tone::Good), "now".to_owned()),
        false => (
            Cell::toned("away", Tone::Bad),
            format::ago(host.last_seen_at),
        ),
    };
    let isolation = match host.unsafe_no_isolation {
        true => Cell::toned(format!("{} (unsafe)", host.isolation), Tone::Bad),
        false => host.isolation.as_str().into(),
    };
    let row = Row::new([
        host.name.as_str().into(),
        state,
        contact.into(),
        host.kind.as_str().into(),
        isolation,
        host.isolation_tiers.join(", ").into(),
        host.limits.as_str().into(),
    ]);
    let builds = match host.builders.is_empty() {
        true => "builds nothing: install Node.js or Python there".to_owned(),
        false => format!("builds {}", host.builders.join(", ")),
    };
    let machine = format!(
        "{}/{}, {} cores, {} of memory, up to {} replicas",
        host.os,
        host.arch,
        format::cores(host.cpu_millis),
        format::bytes(host.memory_bytes),
        host.max_replicas,
    );
    row.with([machine, builds])
}

async fn token(api: &Api, output: &Output) -> Result<()> {
    let request = api.request(Method::POST, &["hosts", "token"]);
    let token: JoinToken = api.json(request).await?;
    if output.json {
        return output.object(&token);
    }
    output.line(&token.token)?;
    output.note(format_args!(
        "One host joins with it, within {}: parallax host --server {} --token-file FILE",
        format::span(std::time::Duration::from_secs(token.expires_in_s)),
        api.url(),
    ));
    Ok(())
}
