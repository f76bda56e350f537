//! Updates of durable tasks on their way to whoever watches. In memory only: who comes later has
//! missed them, who reads too slowly is told how many, and the outcome is in the task's row anyway.

use std::collections::HashMap;

use parallax_core::id::TaskId;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::call::Update;

/// Updates that wait for a slow watcher of one task.
const KEPT: usize = 64;

/// The tasks that somebody watches.
#[derive(Debug, Default)]
pub struct Live {
    watched: Mutex<HashMap<TaskId, broadcast::Sender<Update>>>,
}

impl Live {
    /// Updates of the task from now on.
    pub fn watch(&self, task: TaskId) -> broadcast::Receiver<Update> {
        let mut watched = self.watched.lock();
        // Those whose last watcher has left go when the next watcher comes.
        watched.retain(|_, updates| updates.receiver_count() > 0);
        watched
            .entry(task)
            .or_insert_with(|| broadcast::channel(KEPT).0)
            .subscribe()
    }

    /// Passes an update on, if anybody watches the task.
    pub(super) fn tell(&self, task: TaskId, update: Update) {
        if let Some(updates) = self.watched.lock().get(&task) {
            // Fails when the last watcher has just left.
            drop(updates.send(update));
        }
    }
}
