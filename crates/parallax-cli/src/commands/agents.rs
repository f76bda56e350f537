//! `parallax agents`: the fleet.

use anyhow::Result;
use parallax_api::agents::{AgentView, Status};
use parallax_core::status::{Phase, Reason};

use crate::context::Context;
use crate::format;

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only agents in this phase
    #[arg(long, value_parser = phase)]
    phase: Option<Phase>,
}

/// A person looks at hundreds; programs page through the API themselves.
const MOST: usize = 10_000;

/// Not a phase.
#[derive(Debug, thiserror::Error)]
#[error("phases are {}", Phase::ALL.iter().map(|phase| phase.as_str()).collect::<Vec<_>>().join(", "))]
struct UnknownPhase;

fn phase(text: &str) -> Result<Phase, UnknownPhase> {
    let found = Phase::ALL
        .iter()
        .find(|phase| phase.as_str().eq_ignore_ascii_case(text));
    found.copied().ok_or(UnknownPhase)
}

/// Lists agents.
pub(crate) async fn run(args: Args, context: &Context) -> Result<()> {
    let api = context.api()?;
    let mut query = Vec::new();
    query.extend(args.phase.map(|phase| ("phase", phase.to_string())));
    let agents: Vec<AgentView> = api.list(&["agents"], &query, MOST).await?;
    if context.output.json {
        return agents
            .iter()
            .try_for_each(|agent| context.output.object(agent));
    }
    if agents.is_empty() {
        context
            .output
            .note("No agents yet. Deploy one with `parallax deploy DIR`.");
        return Ok(());
    }
    let rows = agents.iter().map(row).collect();
    let header = ["NAME", "PHASE", "READY", "SINCE", "CHANGED", "REASON"];
    context.output.table(header, rows)
}

fn row(agent: &AgentView) -> [String; 6] {
    let counts = agent.status.replicas;
    [
        agent.name.clone(),
        agent.status.phase.to_string(),
        format!("{}/{}", counts.ready, counts.desired),
        format!("{} ago", format::age(agent.status.since)),
        format!("{} ago", format::age(agent.updated_at)),
        why(&agent.status),
    ]
}

/// Why an agent is as it is, in one line.
pub(crate) fn why(status: &Status) -> String {
    let message = status.message.lines().next().unwrap_or_default();
    match (status.reason.map(Reason::as_str), message) {
        (None, "") => dash(),
        (None, message) => message.to_owned(),
        (Some(reason), "") => reason.to_owned(),
        (Some(reason), message) => format!("{reason}: {message}"),
    }
}

/// What stands where there is nothing to say.
pub(crate) fn dash() -> String {
    "-".to_owned()
}
