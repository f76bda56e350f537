//! `parallax scale NAME N`.

use std::time::Duration;

use anyhow::Result;
use parallax_api::agents::{AgentView, ScaleRequest};
use reqwest::Method;

use super::{duration, status};
use crate::client::Api;
use crate::context::Context;
use crate::output::Output;
use crate::rollout::Rollout;

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agent's name or id
    name: String,
    /// How many replicas to run
    replicas: u32,
    /// Return once they all take work; for 0, once none is left
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, default_value = "10m", value_parser = duration::parse, value_name = "SPAN")]
    timeout: Duration,
}

/// Scales an agent.
pub(crate) async fn run(args: Args, context: &Context) -> Result<()> {
    let api = context.api()?;
    let request = ScaleRequest {
        replicas: Some(args.replicas),
        ..ScaleRequest::default()
    };
    let path = ["agents", args.name.as_str(), "scale"];
    let agent: AgentView = api.send(Method::PUT, &path, &request).await?;
    finish(agent, args.wait, args.timeout, &api, &context.output).await
}

/// Says what was asked for, or with `wait` what has become of it.
pub(crate) async fn finish(
    agent: AgentView,
    wait: bool,
    timeout: Duration,
    api: &Api,
    output: &Output,
) -> Result<()> {
    if wait {
        let rollout = Rollout {
            api,
            output,
            agent: &agent.name,
            generation: agent.generation,
            timeout,
        };
        let status = rollout.wait().await?;
        return status::print(&status, rollout.api, output).await;
    }
    if output.json {
        return output.object(&agent);
    }
    output.line(format_args!(
        "`{}` is to run {} replica{}; follow it with `parallax status {}`",
        agent.name,
        agent.replicas,
        if agent.replicas == 1 { "" } else { "s" },
        agent.name
    ))
}
