//! Ending a process: asked first, then pressed.

use std::time::Duration;

use tokio::time::Instant;

use super::{Actor, TRY_AGAIN};
use crate::error::chain;
use crate::link;

/// After a replica should have ended by its shim's hand: then the shim itself is taken for stuck.
const STUCK_AFTER: Duration = Duration::from_secs(10);
/// How often a shim that is not reached is asked to stop before it is killed.
const ASK_TO_STOP: u32 = 5;

/// A process that was asked to stop.
#[derive(Clone, Copy, Debug)]
pub(in crate::replica) struct Stopping {
    /// When the shim is taken for stuck, or asked again if it did not hear the first time.
    pub(super) due: Instant,
    grace: Duration,
    /// How often it was asked in vain; `None` once it has heard.
    unheard: Option<u32>,
}

impl Actor {
    pub(super) async fn stop(&mut self, grace: Duration) {
        let Some(running) = &mut self.running else {
            return;
        };
        let before = running.stopping.and_then(|stopping| stopping.unheard);
        let (due, unheard) = match running.link.stop(grace).await {
            Ok(()) => (grace + STUCK_AFTER, None),
            Err(error) => {
                // Most often it has just ended, which its follower is about to say.
                tracing::debug!(replica = %self.id, error = chain(&error), "shim not reached");
                (TRY_AGAIN, Some(before.unwrap_or(0) + 1))
            }
        };
        running.stopping = Some(Stopping {
            due: Instant::now() + due,
            grace,
            unheard,
        });
    }

    /// Goes on with a stop that is due to have ended: asks again a shim that did not hear, and
    /// kills one that does not answer; what it leaves is then found and killed.
    pub(super) async fn escalate(&mut self, stopping: Stopping) {
        if stopping.unheard.is_some_and(|times| times < ASK_TO_STOP) {
            return self.stop(stopping.grace).await;
        }
        let Some(running) = &mut self.running else {
            return;
        };
        if running.link.kill().await.is_err() {
            tracing::warn!(replica = %self.id, "shim does not answer; killing it");
            if let Err(error) = link::kill_shim(running.link.dir()).await {
                tracing::warn!(replica = %self.id, error = chain(&error), "shim not killed");
            }
        }
        running.stopping = Some(Stopping {
            due: Instant::now() + STUCK_AFTER,
            ..stopping
        });
    }

    pub(super) fn overdue(&self) -> Option<Stopping> {
        let stopping = self.running.as_ref()?.stopping?;
        (Instant::now() >= stopping.due).then_some(stopping)
    }
}
