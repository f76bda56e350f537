//! `parallax status NAME`: how an agent is, and what that is derived from.

use std::collections::BTreeSet;

use anyhow::Result;
use parallax_api::Page;
use parallax_api::agents::{BuildView, ExitView, ReplicaView, RevisionView, Status, StatusView};
use parallax_core::build::BuildPhase;
use parallax_core::host::KernelLimits;
use parallax_core::manifest::Resources;
use parallax_core::replica::ReplicaPhase;
use parallax_core::status::{Phase, Reason};

use crate::client::Api;
use crate::context::Context;
use crate::format;
use crate::output::{Output, Tone};
use crate::printable;
use crate::table::{Cell, Row};

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
    print(&status, &api, &context.output).await
}

/// Prints a status, for people together with the limits of the newest revision.
pub(crate) async fn print(view: &StatusView, api: &Api, output: &Output) -> Result<()> {
    if output.json {
        return output.object(view);
    }
    let newest = [("limit", "1".to_owned())];
    let path = ["agents", &view.id.to_string(), "revisions"];
    let mut revisions: Page<RevisionView> = api.get(&path, &newest).await?;
    for line in head(view, revisions.items.pop().as_ref(), output) {
        output.line(line)?;
    }
    let (ended, live): (Vec<_>, Vec<_>) = view
        .replica_details
        .iter()
        .partition(|replica| replica.phase.is_over());
    let earlier = earlier(ended.len(), &view.agent);
    // Those that have ended are of interest where there is nothing else to look at.
    let (shown, earlier) = match (live.is_empty(), ended.is_empty()) {
        (true, true) => return Ok(()),
        (true, false) => (ended, None),
        (false, true) => (live, None),
        (false, false) => (live, Some(earlier)),
    };
    output.line("")?;
    let header = [
        "REPLICA", "REV", "STATE", "RESTARTS", "CPU", "MEMORY", "REQUESTS", "UP",
    ];
    let rows = shown.iter().map(|each| replica(each, &view.status));
    output.table(header, &rows.collect::<Vec<_>>())?;
    earlier.map_or(Ok(()), |words| output.line(words))
}

/// Their lines are there for as long as their hosts keep them, which nothing here says.
fn earlier(ended: usize, agent: &str) -> String {
    let (replicas, lines) = match ended {
        1 => ("replica has", "its lines"),
        _ => ("replicas have", "their lines"),
    };
    format!(
        "{ended} earlier {replicas} ended; `parallax logs {agent}` shows what is kept of {lines}."
    )
}

fn head(view: &StatusView, revision: Option<&RevisionView>, output: &Output) -> Vec<String> {
    let status = &view.status;
    let mut lines = vec![format!("{} ({})", view.agent, view.id)];
    let mut fact = |name: &str, value: &str| {
        // What follows the first line of a text is evidence, such as the last lines of a log.
        let mut words = value.trim_end().lines();
        let first = words.next().unwrap_or_default();
        lines.push(format!("  {name:<9}  {first}"));
        lines.extend(words.map(|more| format!("             {}", printable::log(more, false))));
    };
    let phase = output.tinted(tone(status), phase_words(status));
    fact(
        "phase",
        &format!("{phase}, {}", since(format::age(status.since))),
    );
    if let Some(reason) = status.reason {
        fact("reason", reason.as_str());
    }
    if !status.message.is_empty() {
        fact("message", &status.message);
    }
    let counts = status.replicas;
    let unconfirmed = match counts.unconfirmed {
        0 => String::new(),
        n => format!("{n} not heard of yet, "),
    };
    let replicas = format!(
        "{} ready, {unconfirmed}{} up to date, {} wanted",
        counts.ready, counts.updated, counts.desired
    );
    fact("replicas", &replicas);
    if let Some(revision) = revision {
        let (number, by) = (revision.number, &revision.created_by);
        let ago = format::ago(revision.created_at);
        fact("revision", &format!("{number}, deployed by {by} {ago}"));
    }
    if let Some(build) = view.builds.first() {
        fact("build", &build_words(build, &status.message));
    }
    let means = means(&view.replica_details);
    if !means.is_empty() {
        let (isolation, limits): (BTreeSet<_>, BTreeSet<_>) = means.into_iter().unzip();
        fact("isolation", &joined(isolation));
        let demand = revision.map(|revision| &revision.spec.resources);
        let limits = limits.into_iter().map(|means| limit_words(means, demand));
        fact("limits", &joined(limits));
    }
    if status.observed_generation < view.generation {
        fact("note", "a change is under way that this does not show yet");
    }
    for condition in &status.conditions {
        let holds = if condition.holds { "" } else { "not " };
        fact(
            "note",
            &format!("{holds}{}: {}", condition.kind, condition.message),
        );
    }
    lines
}

fn since(age: String) -> String {
    match age.as_str() {
        "0s" => "just now".to_owned(),
        _ => format!("for {age}"),
    }
}

fn joined(words: impl IntoIterator<Item = impl Into<String>>) -> String {
    let words: Vec<String> = words.into_iter().map(Into::into).collect();
    words.join(", ")
}

/// What keeps the replicas apart and what limits them, as their hosts say: `landlock+cgroup1`.
fn means(replicas: &[ReplicaView]) -> Vec<(&str, &str)> {
    let said = replicas.iter().map(|replica| replica.isolation.as_str());
    let said = said.filter(|means| !means.is_empty());
    said.map(|means| means.split_once('+').unwrap_or((means, "")))
        .collect()
}

/// Which limits hold by `means`, of those that the revision asks for.
fn limit_words(means: &str, demand: Option<&Resources>) -> String {
    let held = KernelLimits::of_word(means);
    let mut parts = Vec::new();
    if let Some(demand) = demand {
        parts.extend(demand.cpu.map(|cpu| match held.cpu {
            true => format!("CPU {}", format::cores(cpu.get())),
            false => "CPU not limited".to_owned(),
        }));
        let memory = demand.memory.map(|memory| format::bytes(memory.get()));
        parts.extend(memory.map(|memory| match held.memory {
            true => format!("memory {memory}"),
            false => format!("memory {memory} (watched)"),
        }));
        parts.extend(demand.pids.map(|pids| match held.pids {
            true => format!("{pids} processes"),
            false => format!("{pids} processes (but not root's)"),
        }));
    }
    match parts.is_empty() {
        true => format!("{means}: the default number of processes"),
        false => format!("{means}: {}", parts.join(", ")),
    }
}

fn replica(replica: &ReplicaView, status: &Status) -> Row<8> {
    // While its host is away, nobody knows whether it still is.
    let running = replica.phase == ReplicaPhase::Running && replica.host_connected;
    let up = replica.started_at.filter(|_| running).map(format::age);
    let row = Row::new([
        replica.id.to_string().into(),
        replica.revision.to_string().into(),
        state(replica),
        replica.restarts.to_string().into(),
        replica.cpu_millis.map(format::cores).into(),
        replica.memory_bytes.map(format::bytes).into(),
        replica.requests.to_string().into(),
        up.into(),
    ]);
    let told = replica_why(replica, &status.message);
    row.with(told).with(last_exit(replica))
}

fn state(replica: &ReplicaView) -> Cell {
    let words = replica.phase.to_string();
    if replica.phase.is_over() {
        return Cell::toned(words, Tone::Quiet);
    }
    match (replica.host_connected, replica.want.as_str(), replica.ready) {
        (false, ..) => Cell::toned(format!("{words}, host away"), Tone::Bad),
        (_, "stop", _) => Cell::toned("stopping", Tone::Quiet),
        (_, _, true) => Cell::toned("ready", Tone::Good),
        _ if replica.reason.is_some() => Cell::toned(words, Tone::Bad),
        _ => Cell::toned(words, Tone::Warning),
    }
}

/// Unless `said` of the whole agent says it already.
fn replica_why(replica: &ReplicaView, said: &str) -> Option<String> {
    if !replica.message.is_empty() && said == replica.message {
        return None;
    }
    let waits = replica.phase == ReplicaPhase::Running && !replica.registered;
    match (replica.reason.map(Reason::as_str), replica.message.as_str()) {
        (None, "") => waits.then(|| waiting(replica)),
        (None, message) => Some(message.to_owned()),
        (Some(reason), "") => Some(reason.to_owned()),
        (Some(reason), message) => Some(format!("{reason}: {message}")),
    }
}

/// Of a replica that was last seen to run and whose agent is not connected.
fn waiting(replica: &ReplicaView) -> String {
    let words = match (replica.host_connected, replica.want.as_str()) {
        (false, _) => "ran when its host was last heard of; neither it nor the agent is connected",
        (true, "stop") => "the process is still there",
        (true, _) => "the process runs, and its agent is not connected",
    };
    match replica.lost_at {
        Some(at) => format!("{words}; it was last heard of {}", format::ago(at)),
        None => words.to_owned(),
    }
}

fn last_exit(replica: &ReplicaView) -> Option<String> {
    let exit = replica.exit.as_ref()?;
    let known = exit.code.is_some_and(|code| {
        let words = format!("exit code {code}");
        replica.message.contains(&words)
    });
    let how = match known {
        true => "ended".to_owned(),
        false => how_it_ended(exit),
    };
    let line = match exit.last_log_line.trim() {
        "" => String::new(),
        line if replica.message.contains(line) => String::new(),
        line => format!("; its last line: {line}"),
    };
    let ago = format::ago(exit.ended_at);
    Some(format!("its last process {how}, {ago}{line}"))
}

fn how_it_ended(exit: &ExitView) -> String {
    match (exit.code, exit.signal) {
        _ if exit.out_of_memory => "ran out of memory".to_owned(),
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended, and nobody recorded how".to_owned(),
    }
}

/// How a build is or was; its message, unless the agent's own says the same.
fn build_words(build: &BuildView, said: &str) -> String {
    let took = match (build.started_at, build.ended_at) {
        (Some(start), Some(end)) => format::span(end.0.since(start.0)),
        (Some(start), None) => format::age(start),
        _ => format::age(build.created_at),
    };
    let ago = format::ago(build.ended_at.unwrap_or(build.created_at));
    let reason = build.reason.map_or("", Reason::as_str);
    let message = match (reason, build.message.as_str()) {
        ("", "") => String::new(),
        (_, message) if said.ends_with(message) => String::new(),
        (reason, "") => format!(": {reason}"),
        ("", message) => format!(": {message}"),
        (reason, message) => format!(": {reason}: {message}"),
    };
    match build.phase {
        BuildPhase::Succeeded if build.cached => format!("was prepared already, {ago}"),
        BuildPhase::Succeeded => format!("succeeded in {took}, {ago}"),
        BuildPhase::Failed | BuildPhase::Cancelled => {
            format!("{} after {took}, {ago}{message}", build.phase)
        }
        phase => format!("{phase} for {took}{message}"),
    }
}

/// The phase; with a question mark while it rests on how replicas were when last heard of.
pub(crate) fn phase_words(status: &Status) -> String {
    match status.replicas.unconfirmed {
        0 => status.phase.to_string(),
        _ => format!("{}?", status.phase),
    }
}

/// The colour of a phase.
pub(crate) fn tone(status: &Status) -> Tone {
    match status.phase {
        Phase::Ready if status.replicas.unconfirmed > 0 => Tone::Warning,
        Phase::Ready => Tone::Good,
        Phase::Pending | Phase::Building | Phase::Starting | Phase::Degraded => Tone::Warning,
        Phase::Failed => Tone::Bad,
        Phase::Suspended | Phase::Draining | Phase::Deleted => Tone::Quiet,
    }
}

#[cfg(test)]
mod tests;
