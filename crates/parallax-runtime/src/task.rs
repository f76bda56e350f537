//! Tasks that end with their owner.

use tokio::task::JoinSet;

/// One background task. Dropping it aborts the task.
#[derive(Debug)]
pub(crate) struct Task(JoinSet<()>);

impl Task {
    /// Starts a task.
    pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        let mut only = JoinSet::new();
        only.spawn(work);
        Self(only)
    }

    /// Whether the task has ended.
    pub(crate) fn is_finished(&mut self) -> bool {
        // How it ended does not matter: a panic has been reported where it happened.
        self.0.is_empty() || self.0.try_join_next().is_some()
    }

    /// Aborts the task and waits until nothing of it is left.
    pub(crate) async fn end(&mut self) {
        self.0.shutdown().await;
    }
}
