//! Counts of what agents did, by task.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// What happened to one task id, over all attempts and all agents that share the tally.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskCount {
    /// Times that work on it began. Above 1, it was run twice.
    pub started: u32,
    /// Times that work on it ended by itself.
    pub finished: u32,
    /// Times that it was cancelled in the middle.
    pub cancelled: u32,
    /// The attempts that began, in order.
    pub attempts: Vec<u32>,
}

/// A shared count. Clones count together.
#[derive(Clone, Debug)]
pub struct Tally {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    tasks: Mutex<HashMap<String, TaskCount>>,
    totals: watch::Sender<Totals>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    started: u64,
    finished: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            inner: Arc::new(Inner {
                tasks: Mutex::default(),
                totals: watch::Sender::new(Totals::default()),
            }),
        }
    }
}

impl Tally {
    /// What happened to this task.
    #[must_use]
    pub fn of(&self, task_id: &str) -> TaskCount {
        self.tasks().get(task_id).cloned().unwrap_or_default()
    }

    /// Every task that was started more than once.
    #[must_use]
    pub fn run_twice(&self) -> Vec<(String, TaskCount)> {
        let tasks = self.tasks();
        let twice = tasks.iter().filter(|(_, count)| count.started > 1);
        twice
            .map(|(id, count)| (id.clone(), count.clone()))
            .collect()
    }

    /// Starts, of all tasks.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.inner.totals.borrow().started
    }

    /// Ends, of all tasks.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.inner.totals.borrow().finished
    }

    /// Waits until `count` tasks were started; false when that takes longer than `patience`.
    pub async fn started_reaches(&self, count: u64, patience: Duration) -> bool {
        self.reaches(patience, |totals| totals.started >= count)
            .await
    }

    /// Waits until `count` tasks were finished; false when that takes longer than `patience`.
    pub async fn finished_reaches(&self, count: u64, patience: Duration) -> bool {
        self.reaches(patience, |totals| totals.finished >= count)
            .await
    }

    async fn reaches(&self, patience: Duration, enough: impl Fn(&Totals) -> bool) -> bool {
        let mut totals = self.inner.totals.subscribe();
        let reached = totals.wait_for(|totals| enough(totals));
        matches!(tokio::time::timeout(patience, reached).await, Ok(Ok(_)))
    }

    pub(super) fn count_start(&self, task_id: &str, attempt: u32) {
        {
            let mut tasks = self.tasks();
            let count = tasks.entry(task_id.to_owned()).or_default();
            count.started += 1;
            count.attempts.push(attempt);
        }
        self.inner.totals.send_modify(|totals| totals.started += 1);
    }

    pub(super) fn count_finish(&self, task_id: &str) {
        self.tasks().entry(task_id.to_owned()).or_default().finished += 1;
        self.inner.totals.send_modify(|totals| totals.finished += 1);
    }

    pub(super) fn count_cancel(&self, task_id: &str) {
        self.tasks()
            .entry(task_id.to_owned())
            .or_default()
            .cancelled += 1;
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, HashMap<String, TaskCount>> {
        self.inner
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
