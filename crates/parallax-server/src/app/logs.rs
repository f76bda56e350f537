//! Logs of replicas and builds, read from the hosts that keep them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parallax_core::error::{Code, Error, Result};
use parallax_core::id::{BuildId, HostId, ReplicaId, RequestId, TenantId};
use parallax_core::key::{Principal, Scope};
use parallax_proto::v1;
use parallax_store::{builds, replicas, revisions};

use tokio::time::Interval;

use super::App;
use super::agents::find;
use crate::auth::require;
use crate::clock::random;
use crate::hosts::{LogFrame, LogSubscription};

/// How soon a reader that follows sees a replica that has just been created.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a reader wants of an agent's logs.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    pub follow: bool,
    /// The last n records of each source instead of all.
    pub tail: Option<u32>,
    /// Only this replica.
    pub replica: Option<ReplicaId>,
    /// Only replicas of this revision.
    pub revision: Option<u64>,
    /// The log of the newest build instead.
    pub build: bool,
    /// Go on after these: one position for each source.
    pub after: Vec<LogPosition>,
}

/// Where a reader is in the log of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPosition {
    pub source: String,
    pub incarnation: u64,
    pub seq: u64,
}

/// One record, or why there are none.
#[derive(Debug)]
pub enum LogItem {
    Record(v1::LogRecord),
    /// The source's host is away, or has lost the log: said, not left out.
    Unavailable {
        source: String,
        message: String,
    },
}

/// The logs of several sources, in the order in which they arrive.
pub struct LogFeed {
    app: Arc<App>,
    tenant: TenantId,
    agent: String,
    query: LogQuery,
    /// When to look for sources that came since; only where the reader follows.
    look: Interval,
    known: HashMap<String, Source>,
    open: Vec<(String, HostId, LogSubscription)>,
    ready: VecDeque<LogItem>,
}

/// What a reader has seen of one source.
#[derive(Debug)]
struct Source {
    /// Its last record that was read; at first what the reader came with.
    after: Option<LogPosition>,
    /// Its host is away, or was when last asked: a reader that follows asks again.
    away: bool,
    /// The reader knows that it is away, and has read nothing of it since.
    told: bool,
}

impl App {
    /// Opens the logs of an agent.
    ///
    /// # Errors
    /// `not_found`, `forbidden` without `read`.
    pub async fn agent_logs(
        self: &Arc<Self>,
        principal: &Principal,
        agent: &str,
        query: &LogQuery,
    ) -> Result<LogFeed> {
        require(principal, Scope::Read)?;
        let sources = self.log_sources(principal.tenant, agent, query).await?;
        let mut feed = LogFeed {
            app: Arc::clone(self),
            tenant: principal.tenant,
            agent: agent.to_owned(),
            query: query.clone(),
            look: tokio::time::interval(LOOK_EVERY),
            known: HashMap::new(),
            open: Vec::new(),
            ready: VecDeque::new(),
        };
        feed.subscribe_to(sources);
        Ok(feed)
    }

    async fn log_sources(
        &self,
        tenant: TenantId,
        agent: &str,
        query: &LogQuery,
    ) -> Result<Vec<(String, HostId)>> {
        let mut tx = self.store.read(tenant).await?;
        let agent = find(&mut tx, agent).await?;
        if query.build {
            let Some(revision) = agent.revision else {
                return Ok(Vec::new());
            };
            let Some(revision) = revisions::get(&mut tx, revision).await? else {
                return Ok(Vec::new());
            };
            let found = builds::list_for_key(&mut tx, &revision.build_key).await?;
            return Ok(found
                .last()
                .map(|build: &parallax_core::build::Build| source_of_build(build.id, build.host))
                .into_iter()
                .collect());
        }
        if let Some(number) = query.revision
            && revisions::by_number(&mut tx, agent.id, number)
                .await?
                .is_none()
        {
            return Err(Error::not_found("revision of this agent", number));
        }
        let mut rows = replicas::list_for_agent(&mut tx, agent.id).await?;
        rows.retain(|row| query.replica.is_none_or(|id| id == row.id));
        rows.retain(|row| {
            query
                .revision
                .is_none_or(|number| number == row.revision_number)
        });
        if let (Some(id), true) = (query.replica, rows.is_empty()) {
            return Err(Error::not_found("replica of this agent", id));
        }
        Ok(rows
            .iter()
            .map(|row| (row.id.to_string(), row.host))
            .collect())
    }
}

fn source_of_build(id: BuildId, host: HostId) -> (String, HostId) {
    (id.to_string(), host)
}

impl LogFeed {
    /// Opens the sources that are new, and those that were away.
    fn subscribe_to(&mut self, sources: Vec<(String, HostId)>) {
        for (source, host) in sources {
            let after = || {
                self.query
                    .after
                    .iter()
                    .find(|p| p.source == source)
                    .cloned()
            };
            let known = self.known.entry(source.clone()).or_insert_with(|| Source {
                after: after(),
                away: true,
                told: false,
            });
            if std::mem::take(&mut known.away) {
                self.subscribe(source, host);
            }
        }
    }

    fn subscribe(&mut self, source: String, host: HostId) {
        let connection = match self.app.connection_of(host) {
            Ok(connection) => connection,
            Err(error) => return self.away(source, error.message.into_owned()),
        };
        let stream_id = RequestId::new(self.app.clock.now(), random()).to_string();
        let subscription = self
            .app
            .hosts
            .log_streams
            .subscribe(stream_id.clone(), host);
        let query = &self.query;
        let after = self.known.get(&source).and_then(|s| s.after.as_ref());
        connection.send(v1::host_down::Frame::LogRequest(v1::LogRequest {
            stream_id,
            source_id: source.clone(),
            after_incarnation: after.map_or(0, |p| p.incarnation),
            after_seq: after.map_or(0, |p| p.seq),
            tail: query.tail.filter(|_| after.is_none()),
            follow: query.follow,
            tenant_id: self.tenant.to_string(),
        }));
        self.open.push((source, host, subscription));
    }

    /// The next record; `None` once every source has ended.
    pub async fn next(&mut self) -> Option<LogItem> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(item);
            }
            if self.open.is_empty() && !self.query.follow {
                return None;
            }
            let Some((frame, index)) = self.arrival().await else {
                self.look_again().await;
                continue;
            };
            match frame {
                Some(LogFrame::Records(records)) => self.read(records),
                Some(LogFrame::End) => drop(self.open.swap_remove(index)),
                Some(LogFrame::Unavailable(message)) => self.lost(index, message),
                None => self.lost(index, "the host closed the log stream".to_owned()),
            }
        }
    }

    /// The next frame and its place among the open sources; `None` when it is time to look for
    /// sources that came since.
    async fn arrival(&mut self) -> Option<(Option<LogFrame>, usize)> {
        let streams = self.open.iter_mut();
        let frames: Vec<_> = streams.map(|(_, _, s)| Box::pin(s.frames.recv())).collect();
        let any = async {
            match frames.is_empty() {
                true => std::future::pending().await,
                false => futures::future::select_all(frames).await,
            }
        };
        tokio::select! {
            (frame, index, _) = any => Some((frame, index)),
            _ = self.look.tick(), if self.query.follow => None,
        }
    }

    async fn look_again(&mut self) {
        let found = self
            .app
            .log_sources(self.tenant, &self.agent, &self.query)
            .await;
        match found {
            Ok(sources) => self.subscribe_to(sources),
            // The agent is gone: what is still open ends by itself.
            Err(error) if error.code == Code::NotFound => self.query.follow = false,
            Err(error) => tracing::warn!(%error, "cannot look for new replicas to follow"),
        }
    }

    fn read(&mut self, records: Vec<v1::LogRecord>) {
        if let Some(last) = records.last()
            && let Some(source) = self.known.get_mut(&last.source_id)
        {
            source.told = false;
            source.after = Some(LogPosition {
                source: last.source_id.clone(),
                incarnation: last.incarnation,
                seq: last.seq,
            });
        }
        self.ready.extend(records.into_iter().map(LogItem::Record));
    }

    fn lost(&mut self, index: usize, message: String) {
        let (source, ..) = self.open.swap_remove(index);
        self.away(source, message);
    }

    /// Says once that a source cannot be read now. A reader that follows goes on where it was as
    /// soon as it can.
    fn away(&mut self, source: String, message: String) {
        let known = self.known.get_mut(&source);
        let told = known.is_some_and(|known| {
            known.away = true;
            std::mem::replace(&mut known.told, true)
        });
        if !told {
            self.ready
                .push_back(LogItem::Unavailable { source, message });
        }
    }

    /// Whether a source is still open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.open.is_empty()
    }
}

impl Drop for LogFeed {
    fn drop(&mut self) {
        for (_, host, subscription) in &self.open {
            self.app.hosts.log_streams.forget(&subscription.stream_id);
            if let Some(connection) = self.app.hosts.get(*host) {
                let cancel = v1::LogCancel {
                    stream_id: subscription.stream_id.clone(),
                };
                connection.send(v1::host_down::Frame::LogCancel(cancel));
            }
        }
    }
}

impl std::str::FromStr for LogPosition {
    type Err = Error;

    /// Reads `rpl_…:incarnation:seq`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(
                Code::InvalidRequest,
                format!("`{text}` is not a log cursor (source:incarnation:seq)"),
            )
        };
        let mut parts = text.split(':');
        let (source, incarnation, seq) = (parts.next(), parts.next(), parts.next());
        match (
            source,
            incarnation.and_then(|n| n.parse().ok()),
            seq.and_then(|n| n.parse().ok()),
            parts.next(),
        ) {
            (Some(source), Some(incarnation), Some(seq), None) => Ok(Self {
                source: source.to_owned(),
                incarnation,
                seq,
            }),
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Display for LogPosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.source, self.incarnation, self.seq)
    }
}

#[cfg(test)]
mod tests;
