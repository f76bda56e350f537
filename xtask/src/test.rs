//! `cargo xtask test [--full] [FILTER]`: installs what the tests need, runs all of them, and ends
//! with one line of counts.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::process::{Workspace, stream};
use crate::steps::{Reported, Steps, say};

pub mod counts;
mod examples;
mod foreign;
mod libtest;
mod managers;
mod prerequisites;
pub mod sdks;

use counts::Counts;

/// The command line of `test`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Add the long fault seeds
    #[arg(long)]
    pub full: bool,
    /// Never call the system's package manager; tests that miss something are skipped
    #[arg(long)]
    pub no_install: bool,
    /// Run only Rust tests whose name contains this, or one part: rust, typescript, python, examples
    pub filter: Option<String>,
}

/// The runners; a filter may name one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Rust,
    TypeScript,
    Python,
    Examples,
}

const PARTS: [(Part, &str); 4] = [
    (Part::Rust, "rust"),
    (Part::TypeScript, "typescript"),
    (Part::Python, "python"),
    (Part::Examples, "examples"),
];

impl Args {
    /// The parts to run, and what libtest filters by.
    fn selection(&self) -> (Vec<Part>, Option<&str>) {
        let Some(filter) = self.filter.as_deref() else {
            return (PARTS.map(|(part, _)| part).to_vec(), None);
        };
        match PARTS.iter().find(|(_, name)| *name == filter) {
            Some((part, _)) => (vec![*part], None),
            None => (vec![Part::Rust], Some(filter)),
        }
    }
}

/// Runs the tests; the last line of the output is the line of counts.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let mut steps = Steps::new("test");
    let counts = collect(workspace, args, &mut steps);
    steps.summary();
    let counts = counts?;
    report(&counts);
    say(&counts.to_string());
    if counts.failed > 0 {
        return Err(Reported.into());
    }
    Ok(())
}

/// An error when anything failed.
pub fn verdict(counts: &Counts) -> Result<()> {
    if counts.failed == 0 {
        return Ok(());
    }
    bail!("{} of the tests failed", counts.failed)
}

/// Names what failed and what was skipped, before the line of counts.
pub fn report(counts: &Counts) {
    let mut skipped = counts.skipped.clone();
    skipped.sort();
    for skip in skipped {
        say(&format!("skipped {}: {}", skip.name, skip.reason));
    }
    for name in &counts.failures {
        say(&format!("failed {name}"));
    }
}

/// Runs every selected part, also after one has failures, and sums the counts.
pub fn collect(workspace: &Workspace, args: &Args, steps: &mut Steps) -> Result<Counts> {
    let cache = Cache::open(&workspace.config)?;
    cache.prune("")?;
    cache.prune("examples")?;
    let (parts, filter) = args.selection();
    let install = !(args.no_install || workspace.config.no_install);
    steps.run("test: prerequisites", || {
        prerequisites::ensure(workspace, install);
        Ok(())
    })?;
    let mut counts = Counts::default();
    for (part, name) in PARTS {
        if !parts.contains(&part) {
            continue;
        }
        let outcome = steps.run(&format!("test: {name}"), || match part {
            Part::Rust => rust(workspace, &cache, args.full, filter),
            Part::TypeScript => sdks::test_typescript(workspace, &cache),
            Part::Python => sdks::test_python(workspace, &cache),
            Part::Examples => examples::test(workspace, &cache),
        });
        match outcome {
            Ok(part_counts) => counts.add(part_counts),
            // A part that cannot run is a failure like any other; the rest still has its say.
            Err(error) => counts.fail(format!("{error:#}")),
        }
    }
    Ok(counts)
}

fn rust(workspace: &Workspace, cache: &Cache, full: bool, filter: Option<&str>) -> Result<Counts> {
    let binary = workspace.build_product()?;
    let logs = workspace.root.join("target/xtask");
    fs::create_dir_all(&logs).context("creating target/xtask")?;
    let skip_log = logs.join(format!("skips-{}", std::process::id()));
    fs::write(&skip_log, "").context("creating the log of skipped tests")?;
    let mut test = workspace.cargo();
    test.args(["test", "--workspace", "--no-fail-fast"])
        .env("PARALLAX_SKIP_LOG", &skip_log)
        .env("PARALLAX_TEST_CACHE", cache.path("conformance"))
        .env("PARALLAX_BIN", binary);
    if let Some(managers) = managers::install(workspace, cache) {
        test.env("PARALLAX_TEST_MANAGERS", managers);
    }
    if full {
        test.env("PARALLAX_TEST_FULL", "1");
    }
    test.args(filter.iter().flat_map(|filter| ["--", filter]));
    let mut reader = libtest::Reader::default();
    let status = stream(&mut test, |line| reader.line(line))?;
    let log = fs::read_to_string(&skip_log).context("reading the log of skipped tests")?;
    fs::remove_file(&skip_log).context("removing the log of skipped tests")?;
    Ok(reader.finish(&log, status.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_selects_a_part_or_rust_tests() {
        let select = |filter: Option<&str>| {
            let args = Args {
                filter: filter.map(str::to_owned),
                ..Args::default()
            };
            let (parts, filter) = args.selection();
            (parts.len(), parts[0], filter.map(str::to_owned))
        };
        assert_eq!(select(None), (4, Part::Rust, None));
        assert_eq!(select(Some("python")), (1, Part::Python, None));
        let rust = (1, Part::Rust, Some("tidy".to_owned()));
        assert_eq!(select(Some("tidy")), rust);
    }
}
