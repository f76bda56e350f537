//! The testkit's integration tests: the product end to end, and the kit itself.

mod byoa;
mod cli;
mod conformance;
mod faults;
mod harness;
mod identity;
mod life;
mod modes;
mod scripted_agent;
