//! Ending a process: asked first, then made to.

use std::time::Duration;

use tokio::time::Instant;

use super::{Actor, TRY_AGAIN};
use crate::error::chain;

/// After a replica should have ended by its shim's hand: then the shim itself is taken for stuck.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// So often a shim that could not be told is asked again before it is taken for stuck.
const MOST_ASKS: u32 = 5;

/// A process that was asked to stop.
#[derive(Clone, Copy, Debug)]
pub(in crate::replica) struct Stopping {
    /// When the shim is taken for stuck, or asked again if it could not be told.
    pub(super) due: Instant,
    grace: Duration,
    told: Told,
    /// How often it was asked while it could not be told.
    asks: u32,
    /// How often the shim itself was killed in vain.
    kills: u32,
}

/// How a shim has got word of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Answered,
    /// It did not answer, and got a signal.
    Signalled,
    /// It is not there, or cannot be signalled.
    Not,
}

impl Actor {
    /// Asks the process to end within `grace`.
    pub(super) async fn stop(&mut self, grace: Duration) {
        let Some(running) = &mut self.running else {
            return;
        };
        let told = match running.link.stop(grace).await {
            Ok(()) => Told::Answered,
            Err(error) => {
                // Most often it has just ended, which its follower is about to say.
                tracing::debug!(replica = %self.id, error = chain(&error), "shim not reached");
                match running.link.tree().terminate() {
                    Ok(true) => {
                        tracing::warn!(replica = %self.id, "its shim does not answer; sent it SIGTERM");
                        Told::Signalled
                    }
                    Ok(false) => Told::Not,
                    Err(error) => {
                        tracing::warn!(replica = %self.id, error = chain(&error), "its shim cannot be told to stop");
                        Told::Not
                    }
                }
            }
        };
        let patience = match told {
            Told::Answered | Told::Signalled => grace + STUCK_AFTER,
            Told::Not => TRY_AGAIN,
        };
        running.stopping = Some(Stopping {
            due: Instant::now() + patience,
            grace,
            told,
            asks: 0,
            kills: 0,
        });
    }

    /// Goes on with a stop that is due to have ended: asks again a shim that could not be told, and
    /// kills one that does not end its replica; what it leaves is then found and killed.
    pub(super) async fn escalate(&mut self, stopping: Stopping) {
        if stopping.told == Told::Not && stopping.asks < MOST_ASKS {
            self.stop(stopping.grace).await;
            let asked = self
                .running
                .as_mut()
                .and_then(|running| running.stopping.as_mut());
            if let Some(again) = asked {
                again.asks = stopping.asks + 1;
            }
            return;
        }
        let Some(running) = &mut self.running else {
            return;
        };
        let mut kills = stopping.kills;
        // A shim that still answers does it better, and records the end.
        let asked =
            stopping.told == Told::Answered && kills == 0 && running.link.kill().await.is_ok();
        if !asked {
            kills += 1;
            match running.link.tree().kill().await {
                Ok(()) => {
                    tracing::warn!(replica = %self.id, "its shim did not end it in time; killed both")
                }
                Err(error) => {
                    tracing::error!(replica = %self.id, kills, error = chain(&error), "its shim did not end it in time and cannot be killed; trying again");
                }
            }
        }
        running.stopping = Some(Stopping {
            due: Instant::now() + STUCK_AFTER,
            kills: kills.max(1),
            ..stopping
        });
    }

    pub(super) fn overdue(&self) -> Option<Stopping> {
        let stopping = self.running.as_ref()?.stopping?;
        (Instant::now() >= stopping.due).then_some(stopping)
    }

    /// Looks whether the process has ended without its shim saying so. One that answers says it
    /// within milliseconds: what two looks find is a shim that is stuck, and it is killed, so that
    /// nothing is shown as running that is not.
    pub(super) async fn end_silent(&mut self) {
        let Some(running) = &mut self.running else {
            return;
        };
        // What cannot be seen is not ended.
        let ended = running.link.tree().has_ended().unwrap_or(false);
        if !std::mem::replace(&mut running.silent_end, ended) || !ended {
            return;
        }
        tracing::warn!(replica = %self.id, "its process has ended, and its shim does not say so; killing the shim");
        if let Err(error) = running.link.tree().kill().await {
            tracing::error!(replica = %self.id, error = chain(&error), "its shim cannot be killed; trying again");
        }
    }
}
