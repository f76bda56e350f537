//! The one conformance suite of the agent SDKs: what every case of it is written with.
//!
//! A case owns a [`Lab`], which starts the SDK's fixture agent as a child process and a real gRPC
//! server under the case's control. Nothing is mocked: the agent dials, authenticates and talks
//! as it does in production, and the case is the server.
//!
//! ```text
//!   case ──awaits / sends frames──▶ Link ◀──AgentService.Session──┐
//!    │                              │ Ledger (rules of every      │
//!    │                              │ session, checked per frame) │
//!    ├──▶ ScriptedServer: AgentService + BlobService, TLS, port 0 ◀┤ fixture agent
//!    └──▶ FixtureProcess: signals, exit code, output ──────────────┘ (child process)
//! ```
//!
//! Cases never sleep: they await frames, with deadlines. That something did *not* happen is shown
//! by order (a Ping and its Pong enclose it), or by the end of the process.
//!
//! A failure says what the contract wants and what the SDK did ([`Breach`]), and ends with the
//! journal of all frames and of the fixture's output.

mod blobs;
mod breach;
mod door;
mod environment;
mod expectations;
pub mod fixtures;
mod frames;
mod journal;
mod lab;
mod ledger;
mod link;
mod process;
mod server;
mod tls;

pub use blobs::{BlobStore, Tampering, Upload, digest_of};
pub use breach::{Breach, check, check_eq};
pub use expectations::evidence_lines;
pub use fixtures::{FixtureCommand, Language};
pub use frames::{Order, json_of, ref_name};
pub use journal::Journal;
pub use lab::{Lab, Setup, Stage, run, unavailable_for};
pub use ledger::Ledger;
pub use link::{Arrival, Link, Ruling};
pub use process::FixtureProcess;
pub use server::{ScriptedServer, Terms};
pub use tls::PrivateCa;

use std::time::Duration;

/// How long a case waits for one frame of an agent that is connected.
///
/// Far above what an SDK needs, so that a busy machine does not fail a case; a defect costs this
/// long once.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// How long a case waits for a connection: a cold interpreter must start, and the longest pause
/// that the contract allows between two attempts is 10 s.
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(40);
