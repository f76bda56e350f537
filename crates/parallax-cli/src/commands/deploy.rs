//! `parallax deploy DIR`: from a folder to a running agent.

mod source;
mod upload;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use parallax_api::deploy::{BuildForecast, DeployAction, DeployResponse, DryRun};
use parallax_api::registry::RegistryEntry;
use parallax_core::name::Name;

use super::{duration, status};
use crate::client::Api;
use crate::context::Context;
use crate::format;
use crate::output::Output;
use crate::printable;
use crate::rollout::Rollout;

pub(crate) use source::Source;

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder with parallax.toml
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Another name than the manifest's
    #[arg(long)]
    name: Option<Name>,
    /// Return once every replica takes work (the default)
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Return once the server has taken it on
    #[arg(long)]
    no_wait: bool,
    /// How long to wait
    #[arg(long, default_value = "30m", value_parser = duration::parse, value_name = "SPAN")]
    timeout: Duration,
    /// Say what would happen and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Deploys an agent.
pub(crate) async fn run(args: Args, context: &Context) -> Result<()> {
    let output = &context.output;
    let source = Source::read(&args.dir, args.name.clone())?;
    let api = context.api()?;
    let packed = source.pack(output).await?;
    if args.dry_run {
        let forecast: DryRun = upload::send(&api, &source, packed, true, output).await?;
        return show_forecast(&forecast, output);
    }
    let deployed: DeployResponse = upload::send(&api, &source, packed, false, output).await?;
    note_deployed(&deployed, output);
    if args.no_wait && !args.wait {
        return match output.json {
            true => output.object(&deployed),
            false => output.line(format_args!(
                "Follow it with `parallax status {}`",
                deployed.agent.name
            )),
        };
    }
    let rollout = Rollout {
        api: &api,
        output,
        agent: &deployed.agent.name,
        generation: deployed.agent.generation,
        timeout: args.timeout,
    };
    let ready = rollout.wait().await?;
    status::print(&ready, &api, output).await?;
    if output.json {
        return Ok(());
    }
    show_call(&deployed.agent.name, &api, output).await
}

fn note_deployed(deployed: &DeployResponse, output: &Output) {
    let name = &deployed.agent.name;
    let revision = deployed.revision.as_ref();
    let number = revision.and_then(|revision| revision.number);
    let number = number.map_or_else(String::new, |number| format!(" revision {number}"));
    match deployed.changed {
        true => output.note(format_args!("deployed `{name}`{number}")),
        false => output.note(format_args!(
            "`{name}`{number} has this spec and source already; nothing changes"
        )),
    }
}

fn show_forecast(forecast: &DryRun, output: &Output) -> Result<()> {
    if output.json {
        return output.object(forecast);
    }
    let name = &forecast.agent;
    let what = match forecast.action {
        DeployAction::Create => format!("`{name}` would be created"),
        DeployAction::Update => format!("`{name}` would be updated"),
        DeployAction::Nothing => {
            format!("`{name}` has this spec and source already; nothing would change")
        }
    };
    let revision = forecast.revision;
    let revision = revision.map_or_else(String::new, |number| format!(", as revision {number}"));
    let build = match forecast.build {
        BuildForecast::Needed => "a host would build it".to_owned(),
        BuildForecast::Prepared => match &forecast.prepared_on {
            Some(host) => format!("host `{host}` reported it built"),
            None => "a host reported it built".to_owned(),
        },
        BuildForecast::Unknown => "whether it must be built is not known".to_owned(),
    };
    output.line(format_args!("{what}{revision}; {build}"))?;
    match &forecast.unschedulable {
        Some(why) => output.line(format_args!("no host could run it now: {why}")),
        None => Ok(()),
    }
}

/// The line that calls the agent, with a capability that it has registered.
async fn show_call(name: &str, api: &Api, output: &Output) -> Result<()> {
    let entries: Vec<RegistryEntry> = api.list(&["registry"], &[], usize::MAX).await?;
    let entry = entries.iter().find(|entry| entry.agent_name == name);
    let Some(capability) = entry.and_then(|entry| entry.capabilities.first()) else {
        return Ok(()); // Scaled to zero: nobody is there to be called.
    };
    output.line("")?;
    let input = example(capability.input_schema.as_ref());
    output.line(format_args!(
        "Call it: parallax invoke {name} {} {}",
        shell_word(&capability.name),
        quoted(&input)
    ))
}

/// One word of a command line, whatever an agent has called its capability.
fn shell_word(text: &str) -> String {
    let is_plain = |it: char| it.is_alphanumeric() || matches!(it, '.' | '_' | '-' | '/' | ':');
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => quoted(text),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", printable::line(text).replace('\'', r"'\''"))
}

/// An input in the shape that the schema asks for.
fn example(schema: Option<&serde_json::Value>) -> String {
    let Some(properties) = schema.and_then(|schema| schema.get("properties")?.as_object()) else {
        return "{…}".to_owned();
    };
    let fields = properties.keys().map(|name| format!("\"{name}\": …"));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
}

/// What was packed, for people.
fn described(entries: u64, bytes: u64) -> String {
    format!("{entries} files and folders, {}", format::bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_calls_an_agent_is_one_call_whatever_it_says_of_itself() {
        assert_eq!(shell_word("text.score-2"), "text.score-2");
        assert_eq!(shell_word("a; rm -rf '~'\n"), r"'a; rm -rf '\''~'\''\n'");
        let schema = serde_json::json!({"properties": {"it's": {}}});
        assert_eq!(quoted(&example(Some(&schema))), r#"'{"it'\''s": …}'"#);
    }
}
