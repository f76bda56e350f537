//! `parallax status NAME`: how an agent is, and what that is derived from.

use anyhow::Result;
use parallax_api::agents::{BuildView, ExitView, ReplicaView, StatusView};
use parallax_core::status::{Phase, Reason};

use super::agents::{dash, why};
use crate::context::Context;
use crate::format;
use crate::output::{Output, Tone};

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agent's name or id
    name: String,
}

/// Shows an agent.
pub(crate) async fn run(args: Args, context: &Context) -> Result<()> {
    let api = context.api()?;
    let status: StatusView = api.get(&["agents", &args.name, "status"], &[]).await?;
    if context.output.json {
        return context.output.object(&status);
    }
    show(&status, &context.output)
}

/// Prints a status for people.
pub(crate) fn show(view: &StatusView, output: &Output) -> Result<()> {
    let status = &view.status;
    let phase = output.tinted(tone(status.phase), status.phase);
    output.line(format_args!("{} ({})", view.agent, view.id))?;
    output.line(format_args!(
        "  phase     {phase} for {}",
        format::age(status.since)
    ))?;
    if status.reason.is_some() || !status.message.is_empty() {
        output.line(format_args!("  reason    {}", why(status)))?;
    }
    let counts = status.replicas;
    output.line(format_args!(
        "  replicas  {} ready, {} up to date, {} wanted",
        counts.ready, counts.updated, counts.desired
    ))?;
    if status.observed_generation < view.generation {
        output.line("  a change is under way that this does not show yet")?;
    }
    for condition in &status.conditions {
        let holds = if condition.holds { "" } else { "not " };
        let message = &condition.message;
        output.line(format_args!("  {holds}{}: {message}", condition.kind))?;
    }
    replicas(&view.replica_details, output)?;
    builds(&view.builds, output)
}

fn replicas(replicas: &[ReplicaView], output: &Output) -> Result<()> {
    if replicas.is_empty() {
        return Ok(());
    }
    output.line("")?;
    let header = [
        "REPLICA",
        "REV",
        "PHASE",
        "READY",
        "RESTARTS",
        "CPU",
        "MEMORY",
        "REQUESTS",
        "ISOLATION",
        "WHY",
    ];
    output.table(header, replicas.iter().map(replica).collect())
}

fn replica(replica: &ReplicaView) -> [String; 10] {
    let phase = match (replica.want.as_str(), replica.host_connected) {
        _ if replica.phase.is_over() => replica.phase.to_string(),
        (_, false) => format!("{}, host away", replica.phase),
        ("stop", _) => format!("{}, to stop", replica.phase),
        _ => replica.phase.to_string(),
    };
    [
        replica.id.to_string(),
        replica.revision.to_string(),
        phase,
        if replica.ready { "yes" } else { "no" }.to_owned(),
        replica.restarts.to_string(),
        replica.cpu_millis.map_or_else(dash, format::cores),
        replica.memory_bytes.map_or_else(dash, format::bytes),
        replica.requests.to_string(),
        match replica.isolation.as_str() {
            "" => dash(),
            means => means.to_owned(),
        },
        replica_why(replica),
    ]
}

fn replica_why(replica: &ReplicaView) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(replica.reason.map(|reason: Reason| reason.to_string()));
    if !replica.message.is_empty() {
        parts.push(replica.message.clone());
    } else if !replica.ready {
        parts.extend(replica.exit.as_ref().map(exit));
    }
    match parts.is_empty() {
        true => dash(),
        false => parts.join(": "),
    }
}

fn exit(exit: &ExitView) -> String {
    let how = match (exit.code, exit.signal) {
        _ if exit.out_of_memory => "out of memory".to_owned(),
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "lost: nobody recorded its end".to_owned(),
    };
    match exit.last_log_line.as_str() {
        "" => how,
        line => format!("{how}, last line: {line}"),
    }
}

fn builds(builds: &[BuildView], output: &Output) -> Result<()> {
    if builds.is_empty() {
        return Ok(());
    }
    output.line("")?;
    let header = ["BUILD", "PHASE", "TOOK", "AGE", "MESSAGE"];
    output.table(header, builds.iter().map(build).collect())
}

fn build(build: &BuildView) -> [String; 5] {
    let took = match (build.started_at, build.ended_at) {
        _ if build.cached => "cached".to_owned(),
        (Some(start), Some(end)) => format::span(end.0.since(start.0)),
        (Some(start), None) => format!("{} so far", format::age(start)),
        _ => dash(),
    };
    let mut message = build.message.lines().next().unwrap_or_default().to_owned();
    if let Some(reason) = build.reason {
        message = format!("{reason}: {message}");
    }
    [
        build.id.to_string(),
        build.phase.to_string(),
        took,
        format::age(build.created_at),
        message,
    ]
}

/// The colour of a phase.
fn tone(phase: Phase) -> Tone {
    match phase {
        Phase::Ready => Tone::Good,
        Phase::Pending | Phase::Building | Phase::Starting | Phase::Degraded => Tone::Warning,
        Phase::Failed => Tone::Bad,
        Phase::Suspended | Phase::Draining | Phase::Deleted => Tone::Quiet,
    }
}
