//! `parallax registry`: who is connected now.

use anyhow::Result;
use parallax_api::registry::{RegistryEntry, RegistryEvent, SdkView};

use crate::client::{Stream, of_problem};
use crate::context::Context;
use crate::format;
use crate::output::{Output, Tone};
use crate::printable;
use crate::table::{Cell, Row};
use crate::waiting::{Patience, pause};

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
    if args.watch {
        return watch(context).await;
    }
    let api = context.api()?;
    let output = &context.output;
    let query: Vec<_> = args
        .capability
        .clone()
        .map(|name| ("capability", name))
        .into_iter()
        .collect();
    let entries: Vec<RegistryEntry> = api.list(&["registry"], &query, usize::MAX).await?;
    if output.json {
        return entries.iter().try_for_each(|entry| output.object(entry));
    }
    if entries.is_empty() {
        output.note(match args.capability {
            Some(name) => format!("No connected agent offers `{name}`; `parallax registry` lists all."),
            None => "No agent is connected. Deploy one with `parallax deploy DIR`, or let one join \
                     that runs elsewhere, with a key from `parallax keys create NAME --scope agent`."
                .to_owned(),
        });
        return Ok(());
    }
    let header = [
        "AGENT",
        "KIND",
        "STATE",
        "IN FLIGHT",
        "CREDIT",
        "SDK",
        "CONNECTED",
        "CAPABILITIES",
    ];
    let rows: Vec<_> = entries.iter().map(row).collect();
    output.table(header, &rows)
}

fn row(entry: &RegistryEntry) -> Row<8> {
    let kind = match entry.replica_id {
        Some(_) => "hosted",
        None => "external",
    };
    let tone = match entry.state.as_str() {
        "connected" => Tone::Good,
        _ => Tone::Warning,
    };
    let row = Row::new([
        entry.agent_name.as_str().into(),
        kind.into(),
        Cell::toned(entry.state.as_str(), tone),
        entry.in_flight.to_string().into(),
        entry.credit.to_string().into(),
        sdk(&entry.sdk).into(),
        format::ago(entry.connected_at).into(),
        capabilities(entry).into(),
    ]);
    let unresolved = entry.unresolved_cancels;
    row.with((unresolved > 0).then(|| {
        format!("{unresolved} cancels were never acknowledged; that work may still go on")
    }))
}

/// What the agent says of its SDK, as `python 0.1.0`; some add the language's own version, which
/// only programs are shown. Without a language, the SDK's name has to do.
fn sdk(sdk: &SdkView) -> String {
    let language = sdk.language.split_whitespace().next();
    let what = language.unwrap_or(&sdk.name);
    format!("{what} {}", sdk.version).trim().to_owned()
}

fn capabilities(entry: &RegistryEntry) -> String {
    let names = entry
        .capabilities
        .iter()
        .map(|capability| capability.name.as_str());
    names.collect::<Vec<_>>().join(", ")
}

async fn watch(context: &Context) -> Result<()> {
    let progress = context.output.silent();
    let mut patience = Patience::default();
    let mut begun = false;
    loop {
        let read = async {
            // Asked each time: a server that comes back may have another address.
            let api = context.api()?;
            let stream = api.stream(&["registry", "watch"], &[], None).await?;
            patience.answered(&progress);
            begun = true;
            follow(stream, &context.output).await
        };
        match read.await {
            Ok(()) => pause().await,
            Err(error) if begun => patience.after(error, &progress).await?,
            Err(error) => return Err(error),
        }
    }
}

async fn follow(mut stream: Stream, output: &Output) -> Result<()> {
    while let Some(message) = stream.next().await? {
        let event: RegistryEvent = message.read()?;
        match &event {
            _ if output.json => output.object(&event)?,
            RegistryEvent::Resync => output.note("Connected now:"),
            RegistryEvent::Synced => output.note("Changes from now on, until Ctrl-C:"),
            RegistryEvent::Upserted { entry } => output.line(format_args!(
                "+ {} {} {} [{}]",
                printable::line(&entry.agent_name),
                printable::line(&entry.instance_uuid),
                printable::line(&entry.state),
                printable::line(&capabilities(entry))
            ))?,
            RegistryEvent::Removed {
                agent_name,
                instance_uuid,
            } => output.line(format_args!(
                "- {} {}",
                printable::line(agent_name),
                printable::line(instance_uuid)
            ))?,
            RegistryEvent::Problem { problem } => return Err(of_problem(problem).into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sdk_is_its_language_and_its_own_version() {
        let check = |name: &str, language: &str, expected: &str| {
            let view = SdkView {
                name: name.to_owned(),
                version: "0.1.0".to_owned(),
                language: language.to_owned(),
            };
            assert_eq!(sdk(&view), expected);
        };
        check("parallax-sdk", "python 3.11.2", "python 0.1.0");
        check("parallax-sdk", "typescript", "typescript 0.1.0");
        check("my-own", "", "my-own 0.1.0");
    }
}
