//! Dispatching queued tasks, and committing what becomes of them.

use std::sync::Arc;
use std::time::Duration;

use parallax_core::error::Result;
use parallax_core::id::TaskId;
use parallax_store::tasks;
use tokio::sync::{Semaphore, mpsc};

use crate::app::App;
use crate::dispatch::{DurableEvent, DurableEventKind};

/// A look at the queue without a signal: back-offs end and deadlines pass by themselves.
const TICK: Duration = Duration::from_secs(1);
/// Tasks read at a time.
const PAGE: u32 = 256;
/// Pages read in one round; the next round goes on where this one stopped, so that tasks for an
/// agent that is away cannot hide those behind them.
const PAGES: usize = 8;
/// Commits under way at once: enough to fill a batch of the store's writer.
const COMMITS: usize = 512;
/// Before a commit that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Gives queued tasks to instances.
pub(crate) async fn dispatch(app: Arc<App>) {
    let mut after: Option<TaskId> = None;
    loop {
        tokio::select! {
            () = app.queue.notified() => {}
            () = tokio::time::sleep(TICK) => {}
            () = app.shutdown.cancelled() => return,
        }
        match round(&app, after).await {
            Ok(stopped_at) => after = stopped_at,
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot dispatch queued tasks"
            ),
        }
    }
}

async fn round(app: &App, mut after: Option<TaskId>) -> Result<Option<TaskId>> {
    for _ in 0..PAGES {
        let mut tx = app.store.system_read().await?;
        let rows = tasks::due_queued(&mut tx, app.clock.now(), after, PAGE).await?;
        drop(tx);
        let full = rows.len() == PAGE as usize;
        let last = rows.last().map(|row| row.id);
        app.dispatch_queued(rows).await?;
        if !full {
            return Ok(None);
        }
        after = last;
    }
    Ok(after)
}

/// Commits the news of attempts. Those of one task stay in order; different tasks do not wait for
/// each other.
pub(crate) async fn commit(app: Arc<App>, mut events: mpsc::UnboundedReceiver<DurableEvent>) {
    let slots = Arc::new(Semaphore::new(COMMITS));
    while let Some(event) = events.recv().await {
        if matches!(event.kind, DurableEventKind::Update(_)) {
            continue;
        }
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let app = Arc::clone(&app);
        let tracker = app.tasks.clone();
        tracker.spawn(async move {
            let _slot = slot;
            while let Err(error) = app.durable_event(&event).await {
                let task = event.call.id;
                tracing::warn!(error = &error as &dyn std::error::Error, %task, "cannot commit a task's outcome; trying again");
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    // The agent keeps the result and offers it to the next server.
                    () = app.shutdown.cancelled() => return,
                }
            }
        });
    }
}
