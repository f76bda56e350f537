//! The local host: it runs what a control plane wants, on this machine, whatever happens to either.
//!
//! ```text
//!            HostService (the host dials)
//!  control ◀──────────▶ session ◀──View── hub ──▶ replica tasks ──▶ parallax shim DIR
//!   plane                  │               └────▶ build queue ────▶ parallax shim DIR
//!                          └──▶ logs
//! ```
//!
//! A [`Host`] is used in the server's process and by `parallax host` alike. Its decisions are the
//! pure functions of `reconcile`; one task for each replica carries them out. What runs belongs to
//! its shim and not to the host: a host that is killed comes back, reads its folder, and goes on.

mod build;
mod clock;
mod config;
mod doctor;
mod down;
mod error;
mod facts;
mod host;
mod hub;
mod isolation;
mod layout;
mod limits;
mod link;
mod logs;
mod prepared;
mod probe;
mod reconcile;
mod replica;
mod session;
mod task;
mod usage;
mod view;

pub use config::{CredentialSource, HostConfig, Stop};
pub use doctor::{Report, ToolReport, doctor};
pub use down::{Census, census, down};
pub use error::HostError;
pub use host::Host;
pub use parallax_shim::spec::LogLimits;
