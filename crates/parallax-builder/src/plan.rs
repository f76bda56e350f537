//! A build as data: what would be done, and why each choice was made.

mod context;
mod error;
mod node;
mod node_steps;
mod python;
mod python_steps;
mod types;

use parallax_core::manifest::{BuildSpec, Language};

pub use error::PlanError;
pub use types::{
    Loser, LoserKind, PLAN_VERSION, PackageManager, Phase, Plan, Resolved, Runtime, Start, Step,
};

pub(crate) use context::Context;

use crate::detect;
use crate::toolchain::Toolchain;
use crate::tree::SourceTree;

/// Decides how the agent in `tree` is built and started with the tools of `toolchain`.
///
/// Reads the tree and nothing else; equal inputs give equal plans.
///
/// # Errors
/// When a choice cannot be made, with what was found and the line that would settle it.
pub fn plan(tree: &SourceTree, spec: &BuildSpec, toolchain: &Toolchain) -> Result<Plan, PlanError> {
    let mut context = Context::open(tree, spec, toolchain)?;
    let detected = detect::detect(&mut context)?;
    match detected.language {
        Language::TypeScript | Language::JavaScript => node::plan(context, detected),
        Language::Python => python::plan(context, detected),
        Language::Rust | Language::Go => Err(PlanError::LanguageUnsupported {
            language: detected.language,
            why: detected.why,
        }),
    }
}
