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
            "No host has connected yet, and without one no agent runs. That of the server's own \
             machine does so a moment after the start, unless it has none; another machine joins \
             with `parallax host` and a token from `parallax hosts token`.",
        );
        return Ok(());
    }
    let header = [
        "NAME",
        "STATE",
        "LAST CONTACT",
        "ISOLATION",
        "TIERS",
        "LIMITS",
    ];
    let rows: Vec<_> = hosts.iter().map(row).collect();
    output.table(header, &rows)
}

fn row(host: &HostView) -> Row<6> {
    let state = match host.connected {
        true => Cell::toned("connected", Tone::Good),
        false => Cell::toned("away", Tone::Bad),
    };
    let isolation = match host.unsafe_no_isolation {
        true => Cell::toned(format!("{} (unsafe)", host.isolation), Tone::Bad),
        false => host.isolation.as_str().into(),
    };
    let row = Row::new([
        host.name.as_str().into(),
        state,
        // Of a connected host, too: one that hangs is connected until its lease ends.
        format::ago(host.last_seen_at).into(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_contact_of_a_connected_host_has_an_age_too() {
        let then = "2026-01-01T00:00:00.000000Z";
        let host: HostView = serde_json::from_value(serde_json::json!({
            "id": "hst_01m82ckbwwq8anq0fmnngx4fns", "name": "edge", "connected": true,
            "last_seen_at": then, "created_at": then, "kind": "local", "arch": "x86_64",
            "os": "linux", "version": "0.1.0", "cpu_millis": 2000, "memory_bytes": 1024,
            "isolation": "landlock", "isolation_tiers": [], "limits": "cgroup2", "builders": [],
            "labels": {}, "unsafe_no_isolation": false, "max_replicas": 1,
        }))
        .expect("as the server answers");
        let header = [
            "NAME",
            "STATE",
            "LAST CONTACT",
            "ISOLATION",
            "TIERS",
            "LIMITS",
        ];
        let lines = crate::table::lines(header, &[row(&host)], &Output::new(false, true));
        let age = format::ago(host.last_seen_at);
        assert!(
            lines[1].starts_with(&format!("edge  connected  {age}  ")),
            "{lines:#?}"
        );
    }
}
