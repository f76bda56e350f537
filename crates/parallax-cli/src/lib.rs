//! The `parallax` binary: client commands over HTTP, and the wiring of `serve`, `host` and `shim`.
//!
//! ```text
//!  args ──▶ config (the environment, once) ──▶ Context ──▶ commands/ (one file each)
//!                                                │            ├──▶ client ──HTTP──▶ server
//!                                                └──▶ output  └──▶ parallax-server, -runtime
//! ```

mod args;
mod client;
mod commands;
mod config;
mod context;
mod exit;
mod format;
mod hint;
mod output;
mod printable;
mod rollout;
mod running;
mod table;
mod waiting;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::Parser;

use args::Cli;
use context::Context;
use exit::Exit;
use output::Output;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // First of all: a shim waits for as long as its replica lives, and must stay small.
    #[cfg(target_os = "linux")]
    if let [_, command, dir] = arguments.as_slice()
        && command == "shim"
    {
        return parallax_shim::main(dir.as_ref());
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(refusal) => return refused(&refusal),
    };
    let environment = config::Environment::read();
    let output = Output::new(
        cli.globals.json,
        cli.globals.no_color || environment.no_color,
    );
    let hint = hint::for_missing(&cli.command);
    let ended = Context::new(cli.globals, environment, output.clone())
        .and_then(|context| commands::run(cli.command, &context));
    match ended {
        Ok(()) => Exit::Ok.into(),
        // Whoever read the output has seen enough: `parallax logs | head`.
        Err(error) if is_broken_pipe(&error) => Exit::Ok.into(),
        Err(error) => {
            let exit = exit::of(&error);
            match exit {
                Exit::Interrupted => output.note(output::chain(&error)),
                _ => output.error(&error),
            }
            if exit == Exit::NotFound
                && let Some(hint) = hint
            {
                output.note(hint);
            }
            exit.into()
        }
    }
}

fn refused(refusal: &clap::Error) -> ExitCode {
    // When not even this can be written, nobody is there to read the reason.
    let _ = refusal.print();
    match refusal.use_stderr() {
        true => Exit::Usage.into(),
        false => Exit::Ok.into(),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
