//! Plans for TypeScript and JavaScript.

mod manager;
mod runtime;
mod start;

use super::context::Context;
use super::error::PlanError;
use super::node_steps;
use super::types::{PLAN_VERSION, Plan};
use crate::detect::Detected;
use crate::detect::package_json::PackageJson;

pub(super) use manager::{Manager, ManagerKind};
pub(super) use start::{Target, development_tool};

/// Everything that is known of the project before the steps are laid out.
pub(super) struct Project {
    pub(super) package: PackageJson,
    /// Without `package.json` there is nothing to install.
    pub(super) has_manifest: bool,
    pub(super) manager: Manager,
    pub(super) target: Target,
    /// Who names the target.
    pub(super) target_from: String,
}

pub(super) fn plan(mut context: Context<'_>, detected: Detected) -> Result<Plan, PlanError> {
    let found = PackageJson::of_root(&context)?;
    let has_manifest = found.is_some();
    let package = found.unwrap_or_default();
    let runtime = runtime::choose(&mut context, &package)?;
    let manager = manager::choose(&mut context, &package)?;
    let target = Target::of(&context, &package, &detected.start);
    let start = start::command(&mut context, &package, &target, &detected.start, &runtime)?;
    let project = Project {
        package,
        has_manifest,
        manager,
        target,
        target_from: detected.start.from,
    };
    let laid_out = node_steps::lay_out(&mut context, &project, &start)?;
    Ok(Plan {
        version: PLAN_VERSION,
        language: detected.language,
        language_why: detected.why,
        package_manager: project.manager.shown,
        runtime,
        start,
        steps: laid_out.steps,
        root_dir: context.root,
        context_dir: context.workspace,
        cache_inputs: laid_out.cache_inputs,
        dependency_dirs: laid_out.dependency_dirs,
        losers: context.losers,
        warnings: context.warnings,
    })
}
