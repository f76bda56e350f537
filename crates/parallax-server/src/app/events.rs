//! The log of what happened.

use std::fmt::Display;

use parallax_core::error::Result;
use parallax_core::event::{Event, Subject};
use parallax_core::id::{AgentId, BuildId, ReplicaId, TenantId};
use parallax_core::key::{Principal, Scope};
use parallax_core::status::Reason;
use parallax_core::time::Timestamp;
use parallax_store::events::{self, Batch, Filter, NewEvent};
use tokio::sync::watch;

use super::App;
use crate::auth::require;

/// Events that are read from the store at a time.
const BATCH: u32 = 256;

/// An event without particulars.
pub fn event(
    at: Timestamp,
    subject: Subject,
    id: &impl Display,
    kind: &str,
    message: String,
) -> NewEvent {
    NewEvent {
        at,
        subject,
        subject_id: id.to_string(),
        kind: kind.to_owned(),
        message,
        data_json: "{}".to_owned(),
    }
}

/// The particulars of an event about something that an agent owns.
#[derive(Debug, serde::Serialize)]
pub struct ForAgent<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildId>,
    pub phase: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// An event about an agent, its replicas and builds included: one subject, so that one cursor
/// tells an agent's whole story.
pub fn agent_event(
    at: Timestamp,
    agent: AgentId,
    kind: &str,
    message: &str,
    data: &impl serde::Serialize,
) -> NewEvent {
    NewEvent {
        at,
        subject: Subject::Agent,
        subject_id: agent.to_string(),
        kind: kind.to_owned(),
        message: message.to_owned(),
        data_json: serde_json::to_string(data).expect("particulars have only string keys"),
    }
}

/// A reader of events that waits for more.
pub struct EventFeed {
    store: parallax_store::Store,
    tenant: TenantId,
    filter: Filter,
    after: u64,
    changed: watch::Receiver<u64>,
}

/// What a feed yields.
#[derive(Debug)]
pub struct EventBatch {
    pub events: Vec<Event>,
    /// Events up to this cursor were deleted before they could be read.
    pub skipped_to: Option<u64>,
}

impl EventFeed {
    /// The next events; waits until there are some.
    ///
    /// # Errors
    /// Whatever the store says; the feed may be asked again.
    pub async fn next(&mut self) -> Result<EventBatch> {
        loop {
            self.changed.mark_unchanged();
            let batch = self.pending().await?;
            if !batch.events.is_empty() {
                return Ok(batch);
            }
            if self.changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The next events that are there already, if any.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn pending(&mut self) -> Result<EventBatch> {
        let mut tx = self.store.read(self.tenant).await?;
        let Batch { events, skipped_to } =
            events::list_after(&mut tx, self.after, &self.filter, BATCH).await?;
        if let Some(last) = events.last() {
            self.after = last.cursor;
        }
        Ok(EventBatch { events, skipped_to })
    }
}

impl App {
    /// The tenant's events after a cursor, at most `limit`; does not wait for more.
    ///
    /// # Errors
    /// `forbidden` without `read`.
    pub async fn list_events(
        &self,
        principal: &Principal,
        filter: &Filter,
        after: u64,
        limit: u32,
    ) -> Result<Batch> {
        require(principal, Scope::Read)?;
        let mut tx = self.store.read(principal.tenant).await?;
        Ok(events::list_after(&mut tx, after, filter, limit).await?)
    }

    /// The tenant's newest cursor: where a reader begins that wants none of the past.
    ///
    /// # Errors
    /// `forbidden` without `read`.
    pub async fn latest_event(&self, principal: &Principal) -> Result<u64> {
        require(principal, Scope::Read)?;
        let mut tx = self.store.read(principal.tenant).await?;
        Ok(events::latest(&mut tx).await?)
    }

    /// Events of the tenant after a cursor.
    ///
    /// # Errors
    /// `forbidden` without `read`.
    pub fn events(&self, principal: &Principal, filter: Filter, after: u64) -> Result<EventFeed> {
        require(principal, Scope::Read)?;
        Ok(self.feed(principal.tenant, filter, after))
    }

    pub(crate) fn feed(&self, tenant: TenantId, filter: Filter, after: u64) -> EventFeed {
        let changed = self.store.events_changed();
        EventFeed {
            store: self.store.clone(),
            tenant,
            filter,
            after,
            changed,
        }
    }
}
