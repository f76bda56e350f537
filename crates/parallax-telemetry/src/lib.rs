//! Tracing initialisation for the binaries: one call, before anything is logged.
//!
//! Logs go to standard error; standard output belongs to what a command answers.

mod logs;

pub use logs::{Config, Format, InitError, init};
