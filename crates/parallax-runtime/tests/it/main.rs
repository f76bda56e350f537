//! A real host with real shims against a control plane that does what a test tells it.

mod adoption;
mod builds;
mod collection;
mod config;
mod fixture;
mod hostile;
mod logs;
mod managers;
mod memory;
mod plane;
mod replicas;
mod sessions;
mod stuck;
