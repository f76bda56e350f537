//! Migrations and all SQL, on SQLite and PostgreSQL: the only user of sqlx.
//!
//! ```text
//!  store.write(tenant, given, work) ─▶ SQLite: one writer task, waiting closures in one
//!                                   │          transaction, answered after its COMMIT
//!                                   └▶ PostgreSQL: a transaction each, one at a time per tenant
//!  store.read(tenant) ─▶ Tx          parallel, a snapshot each
//!  agents::get(&mut tx, id) …        one file per resource, one SQL text per query
//! ```
//!
//! Every query of a customer's data goes through a transaction of one tenant. On PostgreSQL the
//! database itself sees to that (forced row-level security); the few functions that look across
//! tenants say so and want a system transaction.
//!
//! ## Transactions on PostgreSQL
//! A write first takes two advisory locks, a shared one on the database and an exclusive one on
//! its tenant (a system write takes the first one exclusively), and then runs at READ COMMITTED.
//! So the writes of a tenant happen one after the other, as on SQLite: a closure never sees half
//! of another, numbers such as `max + 1` never collide, and the cursors of a tenant's events are
//! given out in the order in which they become visible, so that no reader of events can miss one
//! that was committed late. The price is one commit at a time per tenant; the gain is that no
//! closure has to be run again because of another one of ours. What other programs cause
//! (deadlocks, serialization failures) is retried a bounded number of times.

pub mod agents;
mod blob_store;
pub mod builds;
mod dialect;
mod error;
pub mod events;
pub mod hosts;
pub mod idempotency;
pub mod instances;
pub mod keys;
pub mod meta;
mod migrate;
mod page;
pub mod replicas;
pub mod revisions;
mod row;
pub mod sources;
mod store;
pub mod tasks;
pub mod tenants;
mod tx;
mod value;

pub use blob_store::{BlobError, BlobStore, BlobWriter, Scratch, Stored};
pub use error::{Constraint, StoreError};
pub use page::{Listed, Page};
pub use store::{Config, Store, Work};
pub use tx::Tx;
