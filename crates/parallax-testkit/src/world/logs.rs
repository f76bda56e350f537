//! Logs of agents, and whether a byte of them is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use parallax_api::logs::{LogEntry, LogLine};
use reqwest::Method;

use super::World;
use super::api::lines;

/// The ticks that the replicas of an agent have written, by process, each as far as the process
/// itself says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ticks(pub BTreeMap<u32, u64>);

impl World {
    /// Every log line of an agent's replicas that is kept.
    ///
    /// # Errors
    /// When the server refuses, or a source is out of reach.
    pub async fn logs(&self, agent: &str) -> Result<Vec<LogLine>> {
        self.read_logs(&format!("agents/{agent}/logs")).await
    }

    /// The log of an agent's newest build.
    ///
    /// # Errors
    /// As [`World::logs`].
    pub async fn build_log(&self, agent: &str) -> Result<Vec<LogLine>> {
        self.read_logs(&format!("agents/{agent}/logs?build=true"))
            .await
    }

    async fn read_logs(&self, path: &str) -> Result<Vec<LogLine>> {
        let response = self
            .request(Method::GET, path)
            .header("accept", "application/x-ndjson")
            .send()
            .await?
            .error_for_status()?;
        let text = response.bytes().await.context("reading the log")?;
        let entries: Vec<LogEntry> = lines(&text)?;
        entries
            .into_iter()
            .map(|entry| match entry {
                LogEntry::Line(line) => Ok(line),
                LogEntry::Unavailable { source, message } => bail!("no log of {source}: {message}"),
                LogEntry::Problem { problem } => bail!("the log ended with {problem:#?}"),
            })
            .collect()
    }

    /// Shows that a ticking agent's logs miss nothing: every record number, every tick, and all
    /// that a process is known to have written. What is on its way is waited for.
    ///
    /// # Errors
    /// When something is missing or came twice.
    pub async fn no_log_byte_is_lost(&self, agent: &str) -> Result<Ticks> {
        let written = self.ticks_written();
        self.until("the log has every tick", async || {
            self.whole_log(agent, &written).await.map(Some)
        })
        .await
    }

    async fn whole_log(&self, agent: &str, written: &Ticks) -> Result<Ticks> {
        let log = self.logs(agent).await?;
        let mut next: BTreeMap<(String, u64), u64> = BTreeMap::new();
        let mut seen: BTreeMap<u32, u64> = BTreeMap::new();
        for line in &log {
            let expected = next
                .entry((line.source.clone(), line.incarnation))
                .or_insert(1);
            ensure!(
                line.seq == *expected && !line.gap_before,
                "record {} of {}/{} follows {}",
                line.seq,
                line.source,
                line.incarnation,
                *expected - 1
            );
            *expected += 1;
            if let Some((number, pid)) = tick(&line.line) {
                let last = seen.entry(pid).or_default();
                ensure!(
                    number == *last + 1,
                    "tick {number} of process {pid} follows {last}"
                );
                *last = number;
            }
        }
        for (pid, number) in &written.0 {
            let read = seen.get(pid).copied().unwrap_or_default();
            ensure!(
                read >= *number,
                "process {pid} has written {number} ticks, the log has {read}"
            );
        }
        Ok(Ticks(seen))
    }

    /// What fixtures say that they have written, for as long as their folders are kept.
    #[must_use]
    pub fn ticks_written(&self) -> Ticks {
        let mut written = Ticks::default();
        for home in self.homes() {
            for file in std::fs::read_dir(home).into_iter().flatten().flatten() {
                let name = file.file_name().to_string_lossy().into_owned();
                let pid = name.strip_prefix("ticks-").and_then(|pid| pid.parse().ok());
                let Some(pid) = pid else { continue };
                // Being replaced just now: another look would see it, this one makes do without.
                let text = std::fs::read_to_string(file.path()).unwrap_or_default();
                if let Ok(number) = text.parse() {
                    written.0.insert(pid, number);
                }
            }
        }
        written
    }

    /// How often each task was started and ended by an agent, by its id: what its replicas say in
    /// their logs, those of dead replicas included.
    ///
    /// # Errors
    /// As [`World::logs`].
    pub async fn ran(&self, agent: &str) -> Result<BTreeMap<String, (u32, u32)>> {
        let mut ran: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        for line in self.logs(agent).await? {
            let mut words = line.line.split(' ');
            match (words.next(), words.next()) {
                (Some("start"), Some(task)) => ran.entry(task.to_owned()).or_default().0 += 1,
                (Some("end"), Some(task)) => ran.entry(task.to_owned()).or_default().1 += 1,
                _ => {}
            }
        }
        Ok(ran)
    }

    /// The home folders of all replicas, on all hosts of this world.
    fn homes(&self) -> BTreeSet<PathBuf> {
        let mut homes = BTreeSet::new();
        let hosts = std::fs::read_dir(self.dir())
            .into_iter()
            .flatten()
            .flatten();
        let hosts = hosts
            .map(|entry| entry.path())
            .chain([self.data_dir().join("host")]);
        for host in hosts {
            let replicas = std::fs::read_dir(host.join("replicas"));
            for replica in replicas.into_iter().flatten().flatten() {
                homes.insert(replica.path().join("home"));
            }
        }
        homes
    }
}

/// `tick 7 of 123`.
fn tick(line: &str) -> Option<(u64, u32)> {
    let (number, pid) = line.strip_prefix("tick ")?.split_once(" of ")?;
    Some((number.parse().ok()?, pid.parse().ok()?))
}
