//! Builds: from a source archive to a prepared revision.

mod cache;
mod collect;
mod fetch;
mod job;
mod queue;
mod record;
mod steps;

pub(crate) use fetch::Connection;
pub(crate) use job::{BuildContext, BuildEvent};
pub(crate) use queue::BuildQueue;
