//! Matching calls with agent instances, in memory.
//!
//! ```text
//! http::invoke ─┐                     ┌─▶ Session (grpc::agents) ─▶ agent
//! grpc::tasks ──┼─▶ Directory ─▶ Group┤
//! app::tasks ───┘   (by name)         └─◀ results, credit, heartbeats
//! ```
//!
//! One [`Group`] per (tenant, agent name) holds the name's instances, their leases, what is in
//! flight on each, and the calls that wait for credit, all behind one short lock: nothing in here
//! awaits. A [`Call`] ends exactly once, through its [`Sink`].

mod absent;
mod call;
mod directory;
mod group;
mod instance;
mod live;
mod queue;
mod sweep;

#[cfg(test)]
pub(crate) mod tests;

pub use call::{Call, CallDeadline, CallEvent, CallNews, DurableEvent, Sink, Update, Updates};
pub use directory::{Directory, RegistryChange};
pub use group::{CancelRequest, Group, Placed, Refused, Reservation, SlotId};
pub(crate) use group::{Joining, Restored};
pub use instance::{InstanceView, LeaseState, Link, Peer};
pub use live::Live;

/// Most credit that one instance may hold: what it can have in hand at once.
pub const MAX_CREDIT: u32 = 1024;
/// Acknowledgements of attached results that may wait for company.
const MAX_ACKS: usize = 32;
