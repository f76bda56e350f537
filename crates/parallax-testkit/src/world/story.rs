//! What a person would look at first when something went wrong.

use std::fmt::Write;
use std::path::PathBuf;

use parallax_api::Page;
use parallax_api::agents::{AgentView, StatusView};
use parallax_api::events::EventEntry;

use super::World;

/// Of each log, as much as fits a screen.
const TAIL_LINES: usize = 60;
/// Events that are shown of each agent, the newest.
const EVENTS: usize = 40;

impl World {
    pub(super) fn log_file(&self) -> PathBuf {
        self.dir().join("serve.log")
    }

    /// The end of the server's log, and of every separate host's.
    pub(super) fn log_tail(&self) -> String {
        let mut tails = String::new();
        let logs = std::fs::read_dir(self.dir())
            .into_iter()
            .flatten()
            .flatten();
        for path in logs.map(|entry| entry.path()) {
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            let bytes = std::fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
            let _ = write!(tails, "--- {}\n{}\n", path.display(), tail.join("\n"));
        }
        tails
    }

    /// Every agent's status and events, and the end of the logs.
    pub async fn story(&self) -> String {
        let mut story = String::new();
        match self.get::<Page<AgentView>>("agents").await {
            Ok(agents) => {
                for agent in agents.items {
                    story.push_str(&self.story_of(&agent.name).await);
                }
            }
            Err(error) => {
                let _ = writeln!(story, "--- the server does not list its agents: {error:#}");
            }
        }
        story.push_str(&self.log_tail());
        story
    }

    async fn story_of(&self, agent: &str) -> String {
        let mut story = format!("--- agent {agent}\n");
        // Writing to a String cannot fail.
        let _ = match self
            .get::<StatusView>(&format!("agents/{agent}/status"))
            .await
        {
            Ok(status) => writeln!(story, "{status:#?}"),
            Err(error) => writeln!(story, "no status: {error:#}"),
        };
        match self.events_so_far(agent).await {
            Ok(events) => {
                for event in &events[events.len().saturating_sub(EVENTS)..] {
                    let _ = match event {
                        EventEntry::Event(event) => {
                            writeln!(story, "{} {} {}", event.at, event.kind, event.message)
                        }
                        other => writeln!(story, "{other:?}"),
                    };
                }
            }
            Err(error) => {
                let _ = writeln!(story, "no events: {error:#}");
            }
        }
        story
    }
}
