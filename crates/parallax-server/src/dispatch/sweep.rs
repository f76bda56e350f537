//! What the passing of time does: deadlines, unanswered cancels, leases.

use std::sync::Arc;
use std::time::Duration;

use parallax_core::error::{Code, Error};
use parallax_core::task::CancelState;
use tokio::time::Instant;

use super::call::{DurableEvent, DurableEventKind, Sink, problem};
use super::group::ask_to_stop;
use super::instance::{InFlight, Instance};

/// Tells callers whose time is up, asks the agent to stop, and marks cancels that went unanswered.
pub(super) fn in_flight(instance: &mut Instance, now: Instant, grace: Duration) {
    for entry in instance.in_flight.values_mut() {
        // The outcome came in time; that its commit takes a moment changes nothing.
        if entry.committing {
            continue;
        }
        if entry.cancel_due.is_some_and(|due| due <= now) {
            entry.cancel_due = None;
            entry.cancel = CancelState::Unresolved;
            if let Sink::Durable(events) = &entry.sink {
                let kind = DurableEventKind::CancelUnresolved;
                drop(events.send(DurableEvent {
                    call: Arc::clone(&entry.call),
                    attempt: entry.attempt,
                    kind,
                }));
            }
        }
        if entry.sink.is_abandoned() {
            ask_to_stop(
                entry,
                instance.link.as_ref(),
                "the caller went away",
                grace,
                now,
            );
        } else if entry.call.is_due(now) && !entry.expired {
            ask_to_stop(
                entry,
                instance.link.as_ref(),
                "the deadline passed",
                grace,
                now,
            );
            expire(entry);
        }
    }
}

/// Tells the caller. A durable task's row goes on hearing of its cancel.
fn expire(entry: &mut InFlight) {
    entry.expired = true;
    if let Sink::Durable(events) = &entry.sink {
        // The commit job lives as long as the server.
        drop(events.send(DurableEvent {
            call: Arc::clone(&entry.call),
            attempt: entry.attempt,
            kind: DurableEventKind::Expired,
        }));
        return;
    }
    let error = Error::new(
        Code::DeadlineExceeded,
        "the deadline passed; the agent was told to stop",
    );
    std::mem::replace(&mut entry.sink, Sink::Nobody).deliver(&entry.call, problem(&error));
}
