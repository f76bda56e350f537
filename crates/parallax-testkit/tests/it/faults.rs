//! "Faults it must survive": each with real processes that are really killed.

mod builds;
mod chance;
mod folders;
mod host;
mod load;
mod replica;
mod server;
mod start;
mod surroundings;
