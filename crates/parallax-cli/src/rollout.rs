//! Waiting until what was asked for has happened, and saying what happens meanwhile.

mod build_log;

use std::time::Duration;

use anyhow::Result;
use parallax_api::agents::StatusView;
use parallax_api::logs::LogEntry;
use parallax_core::status::{Reason, Verdict};
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
            match status.verdict(self.generation) {
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
                    "what was asked of `{agent}` was not there within {seconds} s: it is {last}. \
                     The server goes on; look again with `parallax status {agent}`",
                    agent = self.agent
                );
                return Err(Ended::new(Exit::Deadline, message).into());
            }
            pause(&mut build_log, &progress).await;
        }
    }

    async fn failure(&self, status: &StatusView, build_was_shown: bool) -> anyhow::Error {
        let of_build = status.status.reason.is_some_and(Reason::is_of_build);
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

fn words(view: &StatusView) -> String {
    let status = &view.status;
    let counts = status.replicas;
    let reason = status
        .reason
        .map_or_else(String::new, |reason| format!(" ({reason})"));
    let message = match status.message.as_str() {
        _ if counts.desired == 0 && view.present() == 1 => {
            ": 1 replica has not ended yet".to_owned()
        }
        _ if counts.desired == 0 && view.present() > 1 => {
            format!(": {} replicas have not ended yet", view.present())
        }
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

#[cfg(test)]
mod tests {
    use parallax_api::agents::Condition;
    use serde_json::{Value, json};

    use super::*;

    fn view(phase: &str, reason: &str, replicas: &[&str]) -> StatusView {
        let start = "2026-01-01T00:00:00.000000Z";
        let replica = |phase: &&str| {
            json!({
                "id": "rpl_01m82ctga2cshb2q7frkzag9v5", "revision": 1,
                "host": "hst_01m82ckbwwq8anq0fmnngx4fns", "want": "stop", "phase": phase,
                "ready": false, "registered": false, "host_connected": true, "message": "",
                "incarnation": 1, "restarts": 0, "isolation": "", "requests": 0, "in_flight": 0,
            })
        };
        let details: Vec<Value> = replicas.iter().map(replica).collect();
        let view = json!({
            "id": "agt_01m82ct3z3072gdvm1eqepq4c3", "agent": "parrot", "generation": 2,
            "phase": phase, "reason": reason, "message": "0 replicas are wanted", "since": start,
            "observed_generation": 2, "replicas": {"desired": 0, "ready": 0, "unconfirmed": 0, "updated": 0},
            "conditions": [], "replica_details": details, "builds": [],
        });
        serde_json::from_value(view).expect("as the server answers")
    }

    #[test]
    fn scaling_to_zero_is_done_when_the_last_replica_has_ended() {
        let zero = |replicas: &[&str]| view("Ready", "ScaledToZero", replicas);
        let stopping = zero(&["stopping", "stopped", "running"]);
        assert_eq!(stopping.verdict(2), Verdict::Wait);
        let expected = "Ready (ScaledToZero): 2 replicas have not ended yet";
        assert_eq!(words(&stopping), expected);
        let stopped = zero(&["stopped"]);
        assert_eq!(stopped.verdict(2), Verdict::Done);
        assert_eq!(stopped.verdict(3), Verdict::Wait, "of the change before");
    }

    #[test]
    fn a_wait_does_not_end_on_what_is_only_carried_over() {
        let mut view = view("Ready", "ScaledToZero", &[]);
        let condition = |holds| Condition {
            kind: "HostConnected".to_owned(),
            holds,
            message: String::new(),
        };
        view.status.conditions = vec![condition(false)];
        assert_eq!(view.verdict(2), Verdict::Wait);
        view.status.conditions = vec![condition(true)];
        assert_eq!(view.verdict(2), Verdict::Done);
        view.status.replicas.unconfirmed = 1;
        assert_eq!(view.verdict(2), Verdict::Wait);
    }
}
