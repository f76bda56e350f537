//! The domain of Parallax: ids, specs, state machines, placement and errors.
//!
//! ```text
//! http/grpc ──▶ app ──▶ store
//!      │         │        │
//!      └─────────┴────────┴──▶ core   (this crate; depends on nothing of ours)
//! ```
//!
//! Pure: no I/O, no clock, no randomness. Time ([`time::Timestamp`]) and entropy come in as
//! arguments, so that every rule here can be tested with plain values.

pub mod agent;
pub mod backoff;
pub mod blob;
pub mod build;
pub mod deploy;
pub mod error;
pub mod event;
pub mod host;
pub mod id;
pub mod instance;
pub mod json;
pub mod key;
pub mod manifest;
pub mod name;
pub mod placement;
pub mod quantity;
pub mod reconcile;
pub mod replica;
pub mod rollout;
pub mod secretish;
pub mod status;
pub mod task;
pub mod text;
pub mod time;
pub mod word;
