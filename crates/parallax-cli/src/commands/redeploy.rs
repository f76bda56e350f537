//! `parallax redeploy NAME`: new replicas of the same source.

use std::time::Duration;

use anyhow::Result;
use parallax_api::agents::AgentView;
use reqwest::Method;

use super::{duration, scale};
use crate::context::Context;

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agent's name or id
    name: String,
    /// Return once every replica is new and takes work
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, default_value = "30m", value_parser = duration::parse, value_name = "SPAN")]
    timeout: Duration,
}

/// Redeploys an agent.
pub(crate) async fn run(args: Args, context: &Context) -> Result<()> {
    let api = context.api()?;
    let request = api.request(Method::POST, &["agents", &args.name, "redeploy"]);
    let agent: AgentView = api.json(request).await?;
    scale::finish(agent, args.wait, args.timeout, &api, &context.output).await
}
