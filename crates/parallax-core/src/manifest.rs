//! `parallax.toml`: what a developer says about an agent, as one validated [`AgentSpec`].
//!
//! ```text
//! parallax.toml ──parse──▶ AgentSpec ──run()────▶ RunSpec    (what a replica is given)
//!   spec JSON ────serde──▶    │     └─build()──▶ BuildSpec  (what a builder is given)
//!                             └─validate(): the same rules for both doors
//! ```
//!
//! Both doors are strict: an unknown key is refused, with the nearest known one named. The TOML
//! door reports every problem at once, each with its line and column.

mod reader;
mod spec;
mod suggest;
mod validate;
mod words;

pub use reader::{FILE_NAME, ManifestError, Problem, parse};
pub use spec::{
    AgentSpec, BuildSettings, BuildSpec, DEFAULT_PROBE_INTERVAL_MS, DEFAULT_PROBE_TIMEOUT_MS,
    DEFAULT_REPLICAS, DEFAULT_STOP_GRACE_MS, HttpProbe, InstallMode, IsolationTier, Language,
    Resources, RunSpec,
};
pub use suggest::nearest;
pub use validate::SpecProblem;
pub use words::{WordsError, split_words};

#[cfg(test)]
mod tests;
