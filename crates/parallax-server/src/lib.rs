//! The control plane: identity, the registry, tasks, deployments, and the two transports.
//!
//! ```text
//!   http/ ──┐                         ┌──▶ store (everything that lasts)
//!           ├──▶ app/ (use cases) ────┼──▶ dispatch (who is connected, what is in flight)
//!   grpc/ ──┘        ▲                └──▶ hosts (who runs replicas)
//!                    │
//!   jobs/ ───────────┘   reconcile · durable · leases · retention
//! ```
//!
//! One port serves HTTP and gRPC. [`Server::start`] wires everything; nothing here is global.

pub mod app;
pub mod auth;
pub mod clock;
pub mod dispatch;
mod grpc;
pub mod hosts;
pub mod http;
mod jobs;
mod listener;
mod ports;
mod server;
#[cfg(test)]
mod testing;

pub use listener::{ListenError, Plaintext, Tls};
pub use server::{Config, Server, StartError};
