//! Waiting until what was asked for has happened, and saying what happens meanwhile.

mod build_log;

use std::time::Duration;

use anyhow::Result;
use parallax_api::agents::{Condition, StatusView};
use parallax_api::logs::LogEntry;
use parallax_core::status::{Phase, Reason};
use tokio::time::{Instant, sleep};

use crate::client::{Api, of_problem};
use crate::commands::status::phase_words;
use crate::exit::{Ended, Exit};
use crate::format;
use crate::output::{Output, Progress};
use crate::printable;
use crate::waiting::{Patience, unless_interrupted};

use build_log::BuildLog;

/// Between two looks at the status: below what a person notices.
const POLL: Duration = Duration::from_millis(250);
/// Last lines of a log that an error shows.
const TAIL: usize = 20;

/// What is waited for.
#[derive(Debug, Clone)]
pub(crate) struct Rollout<'a> {
    pub(crate) api: &'a Api,
    pub(crate) output: &'a Output,
    pub(crate) agent: &'a str,
    /// The generation of the agent that must be reached.
    pub(crate) generation: u64,
    pub(crate) timeout: Duration,
}

/// Whether a status is what was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Done,
    /// It will not get better by itself soon.
    Failed,
    Wait,
}

impl Rollout<'_> {
    /// Waits until every replica of the wanted revision takes work.
    ///
    /// # Errors
    /// With [`Exit::Failed`], the reason and the last log lines when it fails; with
    /// [`Exit::Deadline`] when it takes too long.
    /// With [`Exit::Interrupted`] after Ctrl-C, which ends only the waiting.
    pub(crate) async fn wait(&self) -> Result<StatusView> {
        let agent = self.agent;
        let goes_on =
            format!("`{agent}` goes on without you; look again with `parallax status {agent}`");
        unless_interrupted(self.watch(), goes_on).await
    }

    async fn watch(&self) -> Result<StatusView> {
        let progress = self.output.progress();
        let started = Instant::now();
        let mut build_log = BuildLog::new(self.api, self.agent);
        let mut last = String::new();
        let mut patience = Patience::default();
        loop {
            let looked = self.api.get(&["agents", self.agent, "status"], &[]).await;
            let status: StatusView = match looked {
                Ok(status) => status,
                Err(error) => {
                    patience.after(error, &progress).await?;
                    continue;
                }
            };
            patience.answered(&progress);
            let words = words(&status);
            // A status of before the change would only confuse.
            if words != last && status.status.observed_generation >= self.generation {
                progress.step(format_args!("{} is {words}", self.agent));
                last = words;
            }
            build_log.follow(&status, &progress).await;
            match judge(&status, self.generation) {
                Verdict::Done => return Ok(status),
                Verdict::Failed => {
                    build_log.finish(&progress).await;
                    drop(progress);
                    return Err(self.failure(&status, build_log.was_shown()).await);
                }
                Verdict::Wait => {}
            }
            if started.elapsed() > self.timeout {
                let seconds = self.timeout.as_secs();
                let message = format!(
                    "`{}` was not ready within {seconds} s, and goes on trying: {last}. \
                     Look again with `parallax status {}`",
                    self.agent, self.agent
                );
                return Err(Ended::new(Exit::Deadline, message).into());
            }
            pause(&mut build_log, &progress).await;
        }
    }

    async fn failure(&self, status: &StatusView, build_was_shown: bool) -> anyhow::Error {
        let of_build = status.status.reason.is_some_and(is_of_build);
        if !(of_build && build_was_shown) {
            self.show_tail(of_build).await;
        }
        // The lines that the message goes on with have just been shown.
        let message = format::first_line(&status.status.message);
        let reason = status.status.reason.map_or("Failed", Reason::as_str);
        let counts = status.status.replicas;
        let kept = match counts.ready {
            0 => String::new(),
            ready => format!("; {ready} of {} replicas serve", counts.desired),
        };
        let message = format!(
            "`{}` failed: {reason}: {}{kept}\nMore with `parallax logs {}{}`",
            self.agent,
            printable::line(message.trim_end_matches('.')),
            self.agent,
            if of_build { " --build" } else { "" },
        );
        Ended::new(Exit::Failed, message).into()
    }

    async fn show_tail(&self, of_build: bool) {
        let mut query = vec![("tail", TAIL.to_string())];
        if of_build {
            query.push(("build", "true".to_owned()));
        }
        match self.tail(&query).await {
            Ok(lines) => lines.iter().for_each(|line| {
                self.output
                    .note(format_args!("  | {}", printable::log(line, false)))
            }),
            Err(error) => self.output.warn(format_args!(
                "its log cannot be shown: {}",
                crate::output::chain(&error)
            )),
        }
    }

    async fn tail(&self, query: &[(&str, String)]) -> Result<Vec<String>> {
        let mut stream = self
            .api
            .stream(&["agents", self.agent, "logs"], query, None)
            .await?;
        let mut lines = Vec::new();
        while let Some(message) = stream.next().await? {
            match message.read()? {
                LogEntry::Line(line) => lines.push(line.line),
                LogEntry::Unavailable { message, .. } => lines.push(format!("({message})")),
                LogEntry::Problem { problem } => return Err(of_problem(&problem).into()),
            }
        }
        lines.drain(..lines.len().saturating_sub(TAIL));
        Ok(lines)
    }
}

async fn pause(build_log: &mut BuildLog<'_>, progress: &Progress) {
    let until = Instant::now() + POLL;
    // Lines of a build are shown as they come, not at the next look.
    build_log.show_until(until, progress).await;
    sleep(until.saturating_duration_since(Instant::now())).await;
}

fn words(status: &StatusView) -> String {
    let status = &status.status;
    let counts = status.replicas;
    let reason = status
        .reason
        .map_or_else(String::new, |reason| format!(" ({reason})"));
    let message = match status.message.as_str() {
        "" if counts.desired == 0 => String::new(),
        "" => format!(
            ": {} of {} replicas are ready",
            counts.ready, counts.desired
        ),
        // The rest are last lines of a log, which is shown anyway.
        message => {
            let first = format::first_line(message);
            format!(
                ": {}",
                printable::line(first.trim_start_matches("running: "))
            )
        }
    };
    format!("{}{reason}{message}", phase_words(status))
}

fn judge(view: &StatusView, generation: u64) -> Verdict {
    let status = &view.status;
    if status.observed_generation < generation {
        return Verdict::Wait;
    }
    // While these do not hold, something is only carried over from before.
    let unheard = |condition: &Condition| {
        !condition.holds && matches!(&*condition.kind, "HostConnected" | "AgentConnected")
    };
    let observed = status.replicas.unconfirmed == 0 && !status.conditions.iter().any(unheard);
    let final_reason = status.reason.is_some_and(is_final);
    match status.phase {
        Phase::Ready if !observed => Verdict::Wait,
        Phase::Ready if status.reason != Some(Reason::RollingOut) => Verdict::Done,
        Phase::Suspended | Phase::Deleted => Verdict::Done,
        Phase::Failed if status.reason == Some(Reason::NotRegistered) => Verdict::Failed,
        Phase::Failed | Phase::Degraded if final_reason => Verdict::Failed,
        _ => Verdict::Wait,
    }
}

/// Whether somebody has to do something about it. A host that is still joining makes an agent
/// unschedulable for a moment, and a host that is gone may come back.
fn is_final(reason: Reason) -> bool {
    match reason {
        Reason::Unschedulable
        | Reason::HostLost
        | Reason::ShimLost
        | Reason::NotRegistered
        | Reason::ProbeFailed
        | Reason::ScaledToZero
        | Reason::RollingOut => false,
        Reason::BuildFailed
        | Reason::BuildCancelled
        | Reason::BuildTimedOut
        | Reason::SourceUnavailable
        | Reason::PlanFailed
        | Reason::StartCommandMissing
        | Reason::StartFailed
        | Reason::CrashLoop
        | Reason::ExitedEarly
        | Reason::OutOfMemory
        | Reason::ImagePull
        | Reason::NoContainerRuntime
        | Reason::QuotaExceeded
        | Reason::IsolationUnavailable
        | Reason::SecretMissing
        | Reason::StorageFull => true,
    }
}

fn is_of_build(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::BuildFailed
            | Reason::BuildCancelled
            | Reason::BuildTimedOut
            | Reason::PlanFailed
            | Reason::StartCommandMissing
            | Reason::SourceUnavailable
    )
}

#[cfg(test)]
mod tests {
    use parallax_api::agents::{ReplicaCounts, Status};
    use parallax_core::id::AgentId;
    use parallax_core::time::Timestamp;

    use super::*;

    fn check(phase: Phase, reason: Option<Reason>, observed: u64, expected: Verdict) {
        let view = view(phase, reason, observed);
        assert_eq!(judge(&view, 2), expected, "{phase} {reason:?} {observed}");
    }

    fn view(phase: Phase, reason: Option<Reason>, observed: u64) -> StatusView {
        let now = Timestamp::from_unix_micros(1_790_000_000_000_000);
        StatusView {
            id: AgentId::new(now, [0; 10]),
            agent: "a".to_owned(),
            generation: 2,
            status: Status {
                phase,
                reason,
                message: String::new(),
                since: now.into(),
                observed_generation: observed,
                replicas: ReplicaCounts {
                    desired: 1,
                    ready: 0,
                    unconfirmed: 0,
                    updated: 0,
                },
                conditions: Vec::new(),
            },
            replica_details: Vec::new(),
            builds: Vec::new(),
        }
    }

    #[test]
    fn a_wait_does_not_end_on_what_is_only_carried_over() {
        let mut view = view(Phase::Ready, None, 2);
        let condition = |holds| Condition {
            kind: "HostConnected".to_owned(),
            holds,
            message: String::new(),
        };
        view.status.conditions = vec![condition(false)];
        assert_eq!(judge(&view, 2), Verdict::Wait);
        view.status.conditions = vec![condition(true)];
        assert_eq!(judge(&view, 2), Verdict::Done);
        view.status.replicas.unconfirmed = 1;
        assert_eq!(judge(&view, 2), Verdict::Wait);
        view.status.replicas.unconfirmed = 0;
        view.status.conditions = vec![Condition {
            kind: "Isolated".to_owned(),
            ..condition(false)
        }];
        assert_eq!(judge(&view, 2), Verdict::Done, "it is known, and no better");
    }

    #[test]
    fn a_wait_ends_when_it_is_decided_and_not_before() {
        check(Phase::Ready, None, 2, Verdict::Done);
        check(Phase::Ready, Some(Reason::ScaledToZero), 2, Verdict::Done);
        check(Phase::Ready, None, 1, Verdict::Wait);
        check(Phase::Ready, Some(Reason::RollingOut), 2, Verdict::Wait);
        check(Phase::Failed, Some(Reason::BuildFailed), 1, Verdict::Wait);
        check(Phase::Failed, Some(Reason::BuildFailed), 2, Verdict::Failed);
        check(Phase::Failed, Some(Reason::Unschedulable), 2, Verdict::Wait);
        check(
            Phase::Failed,
            Some(Reason::NotRegistered),
            2,
            Verdict::Failed,
        );
        check(
            Phase::Starting,
            Some(Reason::NotRegistered),
            2,
            Verdict::Wait,
        );
        check(Phase::Degraded, Some(Reason::CrashLoop), 2, Verdict::Failed);
        check(Phase::Degraded, None, 2, Verdict::Wait);
    }
}
