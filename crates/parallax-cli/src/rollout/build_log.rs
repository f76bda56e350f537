//! The lines of the build that is waited for, as they come.

use std::time::Duration;

use parallax_api::agents::StatusView;
use parallax_api::logs::LogEntry;
use parallax_core::build::BuildPhase;
use parallax_core::id::BuildId;
use tokio::time::{Instant, sleep_until, timeout};

use crate::client::{Api, Stream};
use crate::output::Progress;
use crate::printable;

/// How long the last lines may take after the build has ended.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Follows one build after the other.
#[derive(Debug)]
pub(crate) struct BuildLog<'a> {
    api: &'a Api,
    agent: &'a str,
    /// The build whose lines were or are being shown.
    build: Option<BuildId>,
    stream: Option<Stream>,
    shown: u64,
}

impl<'a> BuildLog<'a> {
    pub(crate) fn new(api: &'a Api, agent: &'a str) -> Self {
        Self {
            api,
            agent,
            build: None,
            stream: None,
            shown: 0,
        }
    }

    /// Whether the last build's lines were shown.
    pub(crate) fn was_shown(&self) -> bool {
        self.shown > 0
    }

    /// Opens the log of a build that runs. A log that cannot be opened is only not shown: the
    /// status says how the build ends.
    pub(crate) async fn follow(&mut self, status: &StatusView, progress: &Progress) {
        let Some(build) = status.builds.first() else {
            return;
        };
        if build.phase != BuildPhase::Running || self.build == Some(build.id) {
            return;
        }
        self.finish(progress).await;
        self.build = Some(build.id);
        self.shown = 0;
        let query = [("build", "true".to_owned()), ("follow", "true".to_owned())];
        let path = ["agents", self.agent, "logs"];
        match self.api.stream(&path, &query, None).await {
            Ok(stream) => self.stream = Some(stream),
            Err(error) => progress.line(format_args!(
                "  (the build's log cannot be shown: {})",
                crate::output::chain(&error)
            )),
        }
    }

    /// Shows lines until then, or until the log or one of its steps ends: then the status has news.
    pub(crate) async fn show_until(&mut self, until: Instant, progress: &Progress) {
        let deadline = sleep_until(until);
        tokio::pin!(deadline);
        while self.stream.is_some() {
            tokio::select! {
                () = &mut deadline => return,
                goes_on = self.show_next(progress) => if !goes_on { return },
            }
        }
    }

    /// Shows what is left of the log.
    pub(crate) async fn finish(&mut self, progress: &Progress) {
        let rest = async {
            while self.stream.is_some() {
                self.show_next(progress).await;
            }
        };
        // What is late is still in the log; only this view of it is over.
        let _ = timeout(LAST_LINES, rest).await;
        self.stream = None;
    }

    /// Whether the step goes on. Safe to drop and call again: a line is shown when it is taken.
    async fn show_next(&mut self, progress: &Progress) -> bool {
        let Some(stream) = &mut self.stream else {
            return false;
        };
        let entry = match stream.next().await {
            Ok(Some(message)) => message.read::<LogEntry>(),
            Ok(None) => {
                self.stream = None;
                return false;
            }
            Err(error) => Err(error),
        };
        match entry {
            // Of a step's start and end, the status speaks.
            Ok(LogEntry::Line(line)) if line.stream == "system" => return false,
            Ok(LogEntry::Line(line)) if line.line.trim().is_empty() => {}
            Ok(LogEntry::Line(line)) => {
                self.shown += 1;
                progress.line(format_args!("  | {}", printable::log(&line.line, false)));
            }
            Ok(LogEntry::Unavailable { message, .. }) => {
                progress.line(format_args!("  ({})", printable::line(&message)));
            }
            Ok(LogEntry::Problem { problem }) => {
                progress.line(format_args!("  ({})", printable::block(&problem.detail)));
                self.stream = None;
            }
            Err(error) => {
                progress.line(format_args!("  ({})", crate::output::chain(&error)));
                self.stream = None;
            }
        }
        self.stream.is_some()
    }
}
