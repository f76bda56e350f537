//! The `parallax` binary as it is with the feature `otel`, beside the one without.

use std::process::ExitCode;

fn main() -> ExitCode {
    parallax_cli::main()
}
