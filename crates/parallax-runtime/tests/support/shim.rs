//! What the tests start as `PROGRAM shim DIR`.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    match args.as_slice() {
        [_, command, dir] if command == "shim" => parallax_shim::main(Path::new(dir)),
        _ => ExitCode::from(64),
    }
}
