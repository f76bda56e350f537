//! What the passing of time does: deadlines, unanswered cancels, leases.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parallax_core::error::{Code, Error};
use parallax_core::task::CancelState;
use tokio::time::Instant;

use super::call::{Call, DurableEvent, DurableEventKind, Sink, problem};
use super::group::ask_to_stop;
use super::instance::Instance;

/// Ends the waiting calls whose time is up, and drops those nobody waits for.
pub(super) fn waiting<W>(
    queue: &mut VecDeque<W>,
    now: Instant,
    parts: impl Fn(&W) -> (&Arc<Call>, &Sink),
    expire: impl Fn(W),
) {
    if !queue
        .iter()
        .any(|w| is_due(parts(w).0, now) || parts(w).1.is_abandoned())
    {
        return;
    }
    for entry in std::mem::take(queue) {
        let (call, sink) = parts(&entry);
        if sink.is_abandoned() {
            continue;
        }
        if is_due(call, now) {
            expire(entry);
        } else {
            queue.push_back(entry);
        }
    }
}

/// Tells callers whose time is up, asks the agent to stop, and marks cancels that went unanswered.
pub(super) fn in_flight(instance: &mut Instance, now: Instant, grace: Duration) {
    for entry in instance.in_flight.values_mut() {
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
        } else if is_due(&entry.call, now) {
            ask_to_stop(
                entry,
                instance.link.as_ref(),
                "the deadline passed",
                grace,
                now,
            );
            if let Sink::Durable(events) = &entry.sink {
                let kind = DurableEventKind::Expired;
                drop(events.send(DurableEvent {
                    call: Arc::clone(&entry.call),
                    attempt: entry.attempt,
                    kind,
                }));
            }
            let error = Error::new(
                Code::DeadlineExceeded,
                "the deadline passed; the agent was told to stop",
            );
            std::mem::replace(&mut entry.sink, Sink::Nobody).deliver(&entry.call, problem(&error));
        }
    }
}

fn is_due(call: &Call, now: Instant) -> bool {
    call.deadline.is_some_and(|deadline| deadline.at <= now)
}
