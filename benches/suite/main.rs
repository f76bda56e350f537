//! `parallax-bench [NAME…] [--json] --binary PATH`: runs the benches by name.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use benches::conditions::Conditions;
use benches::report::Figure;
use clap::Parser;

mod dispatch;
mod helper;
mod process;
mod serve;

#[derive(Parser)]
#[command(name = "parallax-bench", about = "Measures Parallax beside its floors")]
struct Args {
    /// Which benches; all when none is named
    names: Vec<String>,
    /// One object a line instead of a table
    #[arg(long)]
    json: bool,
    /// The `parallax` binary to measure
    #[arg(long, required_unless_present = "role")]
    binary: Option<PathBuf>,
    /// The store's example `task_commits`, which is the floor of durable calls
    #[arg(long, required_unless_present = "role")]
    commits: Option<PathBuf>,
    /// What this process is for another one of this program
    #[arg(long, hide = true)]
    role: Option<helper::Role>,
    /// What cargo passes to every bench target
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a bench gets to work with.
struct Subject {
    /// The binary that is measured.
    binary: PathBuf,
    /// The program that commits what durable calls do, and nothing else.
    commits: PathBuf,
    /// The machine, for the figures.
    conditions: Conditions,
}

/// A bench reports each figure as soon as it has it.
type Report<'a> = dyn FnMut(Figure) + 'a;

/// One entry of the registry.
struct Bench {
    name: &'static str,
    run: fn(&Subject, &mut Report<'_>) -> Result<()>,
}

/// Every bench, in the order in which all of them run.
const BENCHES: [Bench; 2] = [
    Bench {
        name: "dispatch",
        run: dispatch::run,
    },
    Bench {
        name: "serve",
        run: serve::run,
    },
];

#[expect(clippy::print_stderr, reason = "errors go to standard error")]
fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.role {
        Some(role) => role.run().map(|()| true),
        None => measure(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("error: a promised figure was missed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the chosen benches and says whether every promise was kept.
#[expect(clippy::print_stdout, reason = "the report goes to standard output")]
fn measure(args: &Args) -> Result<bool> {
    let subject = Subject {
        binary: args.binary.clone().context("--binary is missing")?,
        commits: args.commits.clone().context("--commits is missing")?,
        conditions: Conditions::of_this_machine(),
    };
    let mut all_kept = true;
    for bench in chosen(&args.names)? {
        (bench.run)(&subject, &mut |figure| {
            all_kept &= figure.is_kept();
            if args.json {
                println!("{}", figure.json());
            } else {
                println!("{figure}");
            }
        })?;
    }
    Ok(all_kept)
}

fn chosen(names: &[String]) -> Result<Vec<&'static Bench>> {
    if names.is_empty() {
        return Ok(BENCHES.iter().collect());
    }
    let mut chosen = Vec::new();
    for name in names {
        let Some(bench) = BENCHES.iter().find(|bench| bench.name == name) else {
            let known: Vec<_> = BENCHES.iter().map(|bench| bench.name).collect();
            bail!(
                "there is no bench `{name}`; there are: {}",
                known.join(", ")
            );
        };
        chosen.push(bench);
    }
    Ok(chosen)
}
