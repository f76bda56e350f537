//! Dispatching queued tasks, and committing what becomes of them.

use std::sync::Arc;
use std::time::Duration;

use parallax_core::error::Result;
use parallax_core::id::TaskId;
use parallax_store::tasks;
use tokio::sync::{Semaphore, mpsc};

use crate::app::App;
use crate::dispatch::DurableEvent;

/// A look at the queue without a signal: back-offs end and deadlines pass by themselves.
const TICK: Duration = Duration::from_secs(1);
/// Tasks read at a time.
const PAGE: u32 = 256;
/// Pages read in one round; the next round goes on where this one stopped, so that tasks for an
/// agent that is away cannot hide those behind them.
const PAGES: usize = 8;
/// Between two rounds: what many results make room for is then looked for once.
const PAUSE: Duration = Duration::from_millis(10);
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
        if after.is_some() {
            // There is more behind what was read.
            app.queue.notify_one();
        }
        tokio::time::sleep(PAUSE).await;
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

/// Commits the news of attempts until the server stops. Each news is one transaction that looks at
/// the row as it is then, so that those of one task may overtake each other. What comes after the
/// stop is not lost: an agent keeps its result, and offers it to the next server.
pub(crate) async fn commit(app: Arc<App>, mut events: mpsc::UnboundedReceiver<DurableEvent>) {
    let slots = Arc::new(Semaphore::new(COMMITS));
    loop {
        let event = tokio::select! {
            biased;
            event = events.recv() => event,
            () = app.shutdown.cancelled() => events.try_recv().ok(),
        };
        let Some(event) = event else { return };
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let (job, event) = (Arc::clone(&app), Arc::new(event));
        app.tasks.spawn(async move {
            let _slot = slot;
            while let Err(error) = job.durable_event(&event).await {
                let task = event.call.id;
                tracing::warn!(error = &error as &dyn std::error::Error, %task, "cannot commit a task's outcome; trying again");
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = job.shutdown.cancelled() => return,
                }
            }
        });
    }
}
