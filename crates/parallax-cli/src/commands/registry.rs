//! `parallax registry`: who is connected now.

use std::time::Duration;

use anyhow::Result;
use parallax_api::registry::{RegistryEntry, RegistryEvent};
use tokio::time::sleep;

use crate::client::{Api, of_problem};
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::format;
use crate::output::{Output, chain};

/// Before a stream that ended is opened again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Half a minute covers a server's restart.
const MAX_FAILURES: u32 = 30;

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only agents that offer this capability
    #[arg(long, conflicts_with = "watch")]
    capability: Option<String>,
    /// Go on with every change, until Ctrl-C
    #[arg(long, short)]
    watch: bool,
}

/// Lists connected agents, or follows them.
pub(crate) async fn run(args: Args, context: &Context) -> Result<()> {
    let api = context.api()?;
    let output = &context.output;
    if args.watch {
        return watch(&api, output).await;
    }
    let query: Vec<_> = args
        .capability
        .map(|name| ("capability", name))
        .into_iter()
        .collect();
    let entries: Vec<RegistryEntry> = api.list(&["registry"], &query, usize::MAX).await?;
    if output.json {
        return entries.iter().try_for_each(|entry| output.object(entry));
    }
    if entries.is_empty() {
        output.note("No agent is connected.");
        return Ok(());
    }
    let header = [
        "AGENT",
        "KIND",
        "STATE",
        "CAPABILITIES",
        "IN FLIGHT",
        "CREDIT",
        "SDK",
        "CONNECTED",
    ];
    output.table(header, entries.iter().map(row).collect())
}

fn row(entry: &RegistryEntry) -> [String; 8] {
    let kind = match entry.replica_id {
        Some(_) => "hosted",
        None => "external",
    };
    let state = match entry.unresolved_cancels {
        0 => entry.state.clone(),
        count => format!("{}, {count} cancels unresolved", entry.state),
    };
    [
        entry.agent_name.clone(),
        kind.to_owned(),
        state,
        capabilities(entry),
        entry.in_flight.to_string(),
        entry.credit.to_string(),
        format!("{} {}", entry.sdk.language, entry.sdk.version)
            .trim()
            .to_owned(),
        format!("{} ago", format::age(entry.connected_at)),
    ]
}

fn capabilities(entry: &RegistryEntry) -> String {
    let names = entry
        .capabilities
        .iter()
        .map(|capability| capability.name.as_str());
    names.collect::<Vec<_>>().join(", ")
}

async fn watch(api: &Api, output: &Output) -> Result<()> {
    let mut failures = 0;
    loop {
        match follow(api, output, &mut failures).await {
            Ok(()) => {}
            Err(error) if exit::of(&error) == Exit::Unavailable && failures < MAX_FAILURES => {
                if failures == 0 {
                    output.warn(format_args!("{}; trying again", chain(&error)));
                }
                failures += 1;
            }
            Err(error) => return Err(error),
        }
        sleep(AGAIN_AFTER).await;
    }
}

async fn follow(api: &Api, output: &Output, failures: &mut u32) -> Result<()> {
    let mut stream = api.stream(&["registry", "watch"], &[], None).await?;
    *failures = 0;
    while let Some(message) = stream.next().await? {
        let event: RegistryEvent = message.read()?;
        match &event {
            _ if output.json => output.object(&event)?,
            RegistryEvent::Resync => output.note("everything that is connected:"),
            RegistryEvent::Synced => output.note("changes from now on:"),
            RegistryEvent::Upserted { entry } => output.line(format_args!(
                "+ {} {} {} [{}]",
                entry.agent_name,
                entry.instance_uuid,
                entry.state,
                capabilities(entry)
            ))?,
            RegistryEvent::Removed {
                agent_name,
                instance_uuid,
            } => output.line(format_args!("- {agent_name} {instance_uuid}"))?,
            RegistryEvent::Problem { problem } => return Err(of_problem(problem).into()),
        }
    }
    Ok(())
}
