//! Tracing initialisation for the binaries: one call, before anything is logged.
//!
//! Logs go to standard error; standard output belongs to what a command answers. With the feature
//! `otel`, spans also go to an OTLP collector, and [`trace`] carries their context across the agent
//! protocol; without it, the same calls do nothing.

mod logs;
pub mod trace;

pub use logs::{Config, Format, Guard, InitError, init};
