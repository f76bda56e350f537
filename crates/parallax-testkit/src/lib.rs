//! A real server and host for tests, scripted agents, the conformance suite.

pub mod conformance;
pub mod postgres;
pub mod scripted_agent;
pub mod skip;
pub mod world;
