//! The testkit's integration tests: the product end to end, and the kit itself.

mod byoa;
mod cli;
mod conformance;
mod database;
mod faults;
mod harness;
mod identity;
mod joining;
mod life;
mod modes;
mod scripted_agent;
mod sdk_clients;
mod tls;
mod traces;
