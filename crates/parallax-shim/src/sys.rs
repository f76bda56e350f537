//! Every unsafe call of the crate, each behind a small function that says why it holds.

pub(crate) mod confine;
pub(crate) mod process;
pub(crate) mod seccomp;
pub(crate) mod signals;
