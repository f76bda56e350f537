//! A process that dials where its server was: it can never register there again, and gives way to
//! one that dials where the server is.

use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Actor;

/// What a new process gets before the next replica of its agent is replaced: time to register,
/// should the old address lead to the server after all.
const SETTLE: Duration = Duration::from_secs(2);

/// The right to be replaced.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
    /// When it ends; `None` while there is something to replace.
    until: Option<Instant>,
}

impl Turn {
    pub(super) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self {
            _permit: permit,
            until: None,
        }
    }

    pub(super) fn ends(&self) -> Option<Instant> {
        self.until
    }
}

impl Actor {
    /// Whether the process should make room. Only a server that is there says where it is; and
    /// nothing is stopped that could not be started again.
    pub(super) fn is_outdated(&self) -> bool {
        let dials = self.running.as_ref().and_then(|it| it.dials.as_ref());
        self.orders.confirmed
            && self.orders.assignment.run
            && self.orders.host_stops.is_none()
            && self.orders.refusal.is_none()
            && dials.is_some_and(|url| *url != self.orders.assignment.server_url)
            && self.prepared().is_some()
    }

    /// Ends the turn once the replacement has had its time.
    pub(super) fn end_turn(&mut self) {
        if self.is_outdated() {
            return;
        }
        if let Some(turn) = &mut self.turn {
            let until = *turn.until.get_or_insert_with(|| Instant::now() + SETTLE);
            if until <= Instant::now() {
                self.turn = None;
            }
        }
    }
}
