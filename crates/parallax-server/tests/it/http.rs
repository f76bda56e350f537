//! The HTTP side, and what guards the whole port.

mod agents;
mod deploy;
mod idempotency;
mod invoke;
mod problems;
mod streams;
mod walk_http;
mod walk_rpcs;
mod world;
