//! Plans for Python.

mod runtime;

use std::collections::BTreeMap;

use super::context::Context;
use super::error::PlanError;
use super::python_steps;
use super::types::{PLAN_VERSION, Plan, Start};
use crate::detect::{Detected, StartCommand};

/// The interpreter of the agent's own environment, relative to its folder.
pub(super) const VENV_PYTHON: &str = ".venv/bin/python";

pub(super) fn plan(mut context: Context<'_>, detected: Detected) -> Result<Plan, PlanError> {
    let manager = python_steps::choose_manager(&mut context)?;
    let runtime = runtime::choose(&mut context, manager.needs_pip())?;
    let laid_out = python_steps::lay_out(&mut context, &manager)?;
    let start = command(&context, detected.start);
    Ok(Plan {
        version: PLAN_VERSION,
        language: detected.language,
        language_why: detected.why,
        package_manager: manager.shown,
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

/// The environment's interpreter in place of `python`, and modules of `src/` importable.
fn command(context: &Context<'_>, found: StartCommand) -> Start {
    let mut argv = found.argv;
    if let Some(program) = argv.first_mut() {
        let version = program.strip_prefix("python");
        let is_python =
            version.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'));
        if is_python {
            *program = VENV_PYTHON.to_owned();
        } else if program.ends_with(".py") && context.root_has(program) {
            argv.insert(0, VENV_PYTHON.to_owned());
        }
    }
    let mut env: BTreeMap<String, String> =
        [("PYTHONUNBUFFERED".to_owned(), "1".to_owned())].into();
    if context.root_has_dir("src") {
        env.insert("PYTHONPATH".to_owned(), "src".to_owned());
    }
    env.extend(found.env);
    Start {
        argv,
        env,
        path: vec![".venv/bin".to_owned()],
        why: found.from,
    }
}
