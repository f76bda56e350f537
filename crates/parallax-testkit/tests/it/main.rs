//! The testkit's integration tests.

mod conformance;
mod harness;
mod scripted_agent;
