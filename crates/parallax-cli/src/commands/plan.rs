//! `parallax plan DIR`: how an agent would be built and started here, without a server.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use parallax_builder::{Plan, SourceTree, Toolchain};

use super::deploy::Source;
use crate::context::Context;
use crate::output::{Output, Tone};

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder with parallax.toml
    #[arg(default_value = ".")]
    dir: PathBuf,
}

/// Plans with the tools of this machine.
pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let source = Source::read(&args.dir, None)?;
    let tree = SourceTree::open(&source.located.context)
        .with_context(|| format!("opening {}", source.located.context.display()))?;
    let toolchain = Toolchain::discover(&context.environment.path);
    let plan = parallax_builder::plan(&tree, &source.spec.build(), &toolchain)
        .with_context(|| format!("`{}` cannot be built", source.spec.name))?;
    match context.output.json {
        true => context.output.object(&plan),
        false => show(&plan, &context.output),
    }
}

fn show(plan: &Plan, output: &Output) -> Result<()> {
    let why = |text: &str| output.tinted(Tone::Quiet, format_args!("({text})"));
    let fact = |name: &str, value: &str, reason: &str| {
        output.line(format_args!("{name:<16} {value} {}", why(reason)))
    };
    fact("language", plan.language.as_str(), &plan.language_why)?;
    let manager = &plan.package_manager;
    let version = manager.version.as_deref().unwrap_or_default();
    let with_version = format!("{} {version}", manager.name);
    fact("package manager", with_version.trim_end(), &manager.why)?;
    let runtime = &plan.runtime;
    let resolved = &runtime.resolved;
    let found = format!(
        "{} {} at {}",
        runtime.name,
        resolved.version,
        resolved.path.display()
    );
    fact("runtime", &found, &runtime.why)?;
    for (number, step) in plan.steps.iter().enumerate() {
        let title = format!("step {}", number + 1);
        fact(
            &title,
            &format!("{}: {}", step.name, step.argv.join(" ")),
            &step.why,
        )?;
    }
    fact("start", &plan.start.argv.join(" "), &plan.start.why)?;
    for loser in &plan.losers {
        output.line(format_args!(
            "not taken        {} {}",
            loser.what,
            why(&loser.why)
        ))?;
    }
    plan.warnings
        .iter()
        .for_each(|warning| output.warn(warning));
    Ok(())
}
