//! Stopping work that nobody wants any more.

use std::time::Duration;

use parallax_core::error::{Code, Error};
use parallax_core::id::TaskId;
use parallax_core::task::{CancelState, Outcome};
use parallax_proto::v1;
use tokio::time::Instant;

use super::super::call::Sink;
use super::super::instance::{InFlight, Link};
use super::Group;

/// What became of a request to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelRequest {
    /// It had not been sent to anybody: it is over.
    Withdrawn,
    /// The agent was asked; or, where a durable task's row is just being committed, will not
    /// receive the task.
    Asked,
    /// Not in this group (any more).
    Unknown,
}

impl Group {
    /// Cancels a call of this group: withdraws it, or asks the agent to stop within `grace`.
    pub fn cancel(&self, id: TaskId, reason: &str, grace: Duration, now: Instant) -> CancelRequest {
        let mut state = self.state.lock();
        if let Some(waiting) = state.waiting.remove(id) {
            let message = format!("cancelled before it was sent: {reason}");
            let outcome = Outcome::problem(Code::Cancelled, message);
            waiting.sink.deliver(&waiting.call, outcome);
            return CancelRequest::Withdrawn;
        }
        for instance in state.instances.values_mut() {
            if let Some(entry) = instance.in_flight.get_mut(&id) {
                ask_to_stop(entry, instance.link.as_ref(), reason, grace, now);
                return CancelRequest::Asked;
            }
            if let Some(reserved) = instance.reserved.get_mut(&id) {
                reserved.cancelled = true;
                return CancelRequest::Asked;
            }
        }
        CancelRequest::Unknown
    }

    /// Ends a call whose caller went away; what runs is asked to stop.
    pub fn abandon(&self, id: TaskId, grace: Duration, now: Instant) {
        let why = Error::new(Code::Cancelled, "the caller went away");
        self.give_up(id, &why, grace, now);
    }

    /// Ends a call for a reason of the server's own, which the caller is told; what runs is asked
    /// to stop.
    pub fn give_up(&self, id: TaskId, why: &Error, grace: Duration, now: Instant) {
        let mut state = self.state.lock();
        if let Some(waiting) = state.waiting.remove(id) {
            waiting.sink.deliver(&waiting.call, why.into());
            return;
        }
        for instance in state.instances.values_mut() {
            if let Some(entry) = instance.in_flight.get_mut(&id) {
                ask_to_stop(entry, instance.link.as_ref(), &why.message, grace, now);
                let sink = std::mem::replace(&mut entry.sink, Sink::Nobody);
                sink.deliver(&entry.call, why.into());
                return;
            }
        }
    }
}

/// Asks for a stop once; a second request changes nothing.
pub(in crate::dispatch) fn ask_to_stop(
    entry: &mut InFlight,
    link: Option<&Link>,
    reason: &str,
    grace: Duration,
    now: Instant,
) {
    // An outcome that is being committed is an end already.
    if entry.cancel != CancelState::None || entry.committing {
        return;
    }
    entry.cancel = CancelState::Requested;
    entry.cancel_due = Some(now + grace);
    if let Some(link) = link {
        entry.asked = link.send(v1::agent_down::Frame::Cancel(v1::Cancel {
            r#ref: Some(entry.reference()),
            reason: reason.to_owned(),
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        }));
    }
}
