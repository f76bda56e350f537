//! From a source folder to a plan, and from a plan to a prepared revision directory.
//!
//! ```text
//! folder ──tree──▶ detect ──▶ plan ──▶ Plan (data; `parallax plan --json`)
//!                    ▲          ▲        │
//!      parallax.toml ┘  toolchain┘       ▼
//! archive ──prepare::unpack──▶ tree    the host runs the steps in its sandbox
//! ```
//!
//! One file per language at each layer (`detect/`, `plan/`). Nothing here runs a step: the only
//! processes started are `--version` questions in [`toolchain`]. Every choice in a plan says why.

pub mod detect;
pub mod locate;
pub mod plan;
pub mod prepare;
pub mod toolchain;
pub mod tree;

pub use plan::{Plan, PlanError, plan};
pub use toolchain::Toolchain;
pub use tree::SourceTree;
