//! Following one task.

use std::collections::VecDeque;
use std::sync::Arc;

use parallax_core::error::Result;
use parallax_core::event::Event;
use parallax_core::id::{TaskId, TenantId};
use parallax_core::key::Principal;
use parallax_core::task::TaskState;
use parallax_core::time::Timestamp;
use parallax_store::events;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::TaskRecord;
use crate::app::App;
use crate::app::events::EventFeed;
use crate::dispatch::Update;

/// A change of a task.
#[derive(Debug)]
pub struct TaskChange {
    pub cursor: u64,
    pub at: Timestamp,
    pub kind: String,
    pub task: TaskRecord,
}

/// What a watcher of a task hears of.
#[derive(Debug)]
pub enum TaskNews {
    Changed(Box<TaskChange>),
    /// A sign of life of the attempt under way.
    Update(Update),
    /// So many signs of life were missed, because they were not read in time.
    Skipped(u64),
}

/// A reader of one task's events and signs of life; ends after the terminal event.
pub struct TaskWatch {
    app: Arc<App>,
    tenant: TenantId,
    id: TaskId,
    feed: EventFeed,
    live: broadcast::Receiver<Update>,
    ready: VecDeque<Event>,
    /// Whether the task was looked at itself.
    looked: bool,
    over: bool,
}

impl App {
    /// Follows a task from a cursor on.
    ///
    /// # Errors
    /// As [`Self::get_task`].
    pub async fn watch_task(
        self: &Arc<Self>,
        principal: &Principal,
        id: TaskId,
        after: u64,
    ) -> Result<TaskWatch> {
        self.get_task(principal, id).await?;
        let filter = events::Filter::SubjectId(id.to_string());
        let feed = self.feed(principal.tenant, filter, after);
        let live = self.directory.live().watch(id);
        Ok(TaskWatch {
            app: Arc::clone(self),
            tenant: principal.tenant,
            id,
            feed,
            live,
            ready: VecDeque::new(),
            looked: false,
            over: false,
        })
    }
}

impl TaskWatch {
    /// Waits for events, or for a sign of life; there are none only after the end of the task.
    async fn read_on(&mut self) -> Result<Option<TaskNews>> {
        let batch = if std::mem::replace(&mut self.looked, true) {
            tokio::select! {
                update = self.live.recv() => return Ok(Some(heard(update))),
                batch = self.feed.next() => batch?,
            }
        } else {
            let task = self.app.task_record(self.tenant, self.id).await?;
            // If it has ended by now, no event comes but those that are there.
            self.over = task.row.state.is_terminal();
            self.feed.pending().await?
        };
        self.ready.extend(batch.events);
        Ok(None)
    }

    /// The next news; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<TaskNews>> {
        while self.ready.is_empty() {
            if self.over {
                return None;
            }
            match self.read_on().await {
                Ok(Some(news)) => return Some(Ok(news)),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        // What was said of an attempt comes before its end.
        if let Some(news) = self.heard_before() {
            return Some(Ok(news));
        }
        let event = self.ready.pop_front()?;
        self.over |= is_end(&event);
        let task = match self.app.task_record(self.tenant, self.id).await {
            Ok(task) => task,
            Err(error) => return Some(Err(error)),
        };
        Some(Ok(TaskNews::Changed(Box::new(TaskChange {
            cursor: event.cursor,
            at: event.at,
            kind: event.kind,
            task,
        }))))
    }

    fn heard_before(&mut self) -> Option<TaskNews> {
        if !self.ready.front().is_some_and(is_end) {
            return None;
        }
        match self.live.try_recv() {
            Ok(update) => Some(TaskNews::Update(update)),
            Err(TryRecvError::Lagged(count)) => Some(TaskNews::Skipped(count)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

fn is_end(event: &Event) -> bool {
    let state = event.kind.parse::<TaskState>();
    state.is_ok_and(TaskState::is_terminal)
}

fn heard(update: std::result::Result<Update, RecvError>) -> TaskNews {
    match update {
        Ok(update) => TaskNews::Update(update),
        Err(RecvError::Lagged(count)) => TaskNews::Skipped(count),
        // The sender stays for as long as this receiver does.
        Err(RecvError::Closed) => TaskNews::Skipped(0),
    }
}
