//! `parallax agents`: the fleet.

use anyhow::Result;
use parallax_api::agents::AgentView;
use parallax_core::status::{Phase, Reason};

use super::status::{phase_words, tone};
use crate::context::Context;
use crate::format;
use crate::table::{Cell, Row};

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only agents in this phase, such as Ready or Failed
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
        context.output.note(match args.phase {
            Some(phase) => format!("No agent is {phase}; `parallax agents` lists all."),
            None => "No agents yet. Deploy one from its folder: parallax deploy DIR".to_owned(),
        });
        return Ok(());
    }
    let rows: Vec<_> = agents.iter().map(row).collect();
    let header = ["NAME", "PHASE", "READY", "FOR", "REASON"];
    context.output.table(header, &rows)
}

fn row(agent: &AgentView) -> Row<5> {
    let status = &agent.status;
    let counts = status.replicas;
    let row = Row::new([
        agent.name.as_str().into(),
        Cell::toned(phase_words(status), tone(status)),
        format!("{}/{}", counts.ready, counts.desired).into(),
        format::age(status.since).into(),
        status.reason.map_or("", Reason::as_str).into(),
    ]);
    // The evidence goes on for lines, which `status` shows.
    let message = format::first_line(&status.message);
    row.with((!message.is_empty()).then(|| message.to_owned()))
}
