//! The testkit's integration tests.

mod conformance;
mod scripted_agent;
