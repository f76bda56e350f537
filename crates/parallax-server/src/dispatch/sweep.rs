//! What the passing of time does: deadlines, unanswered cancels, leases.

use std::time::Duration;

use parallax_core::error::Code;
use parallax_core::task::transition::{News, expired_words};
use parallax_core::task::{CancelState, Outcome};
use tokio::time::Instant;

use super::call::Sink;
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
            entry.tell(News::CancelUnresolved, None);
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
    let asked = entry.asked;
    if entry.tell(News::Expired { asked }, None) {
        return;
    }
    let outcome = Outcome::problem(Code::DeadlineExceeded, expired_words(asked));
    std::mem::replace(&mut entry.sink, Sink::Nobody).deliver(&entry.call, outcome);
}
