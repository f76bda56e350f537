//! `parallax delete NAME`.

use std::io::{self, BufRead, IsTerminal};
use std::time::Duration;

use anyhow::{Context as _, Result};
use parallax_api::agents::AgentView;
use reqwest::Method;

use super::duration;
use crate::context::Context;
use crate::exit::{Ended, Exit};
use crate::format;

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agent's name or id
    name: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// How long running tasks may take to end
    #[arg(long, default_value = "30s", value_parser = duration::parse, value_name = "SPAN")]
    drain: Duration,
}

/// Deletes an agent.
pub(crate) async fn run(args: Args, context: &Context) -> Result<()> {
    let api = context.api()?;
    if !args.yes {
        confirm(&args.name, context)?;
    }
    let drain = ("drain", duration::millis(args.drain).to_string());
    let request = api.request(Method::DELETE, &["agents", &args.name]);
    let agent: AgentView = api.json(request.query(&[drain])).await?;
    if context.output.json {
        return context.output.object(&agent);
    }
    context.output.line(format_args!(
        "`{}` is being deleted: tasks have {} to end, then its replicas stop",
        agent.name,
        format::span(args.drain)
    ))
}

fn confirm(name: &str, context: &Context) -> Result<()> {
    if !io::stdin().is_terminal() {
        let message = "deleting needs a confirmation, and nobody is there to give it; pass --yes";
        return Err(Ended::new(Exit::Usage, message).into());
    }
    context.output.note(format_args!(
        "This deletes `{name}`, its revisions and its logs. Type its name to go on:"
    ));
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .context("reading the answer")?;
    anyhow::ensure!(line.trim() == name, "nothing was deleted");
    Ok(())
}
