//! `parallax docs-reference DIR`: the pages of the reference that come from the code, for
//! `cargo xtask codegen`.

#[cfg(target_os = "linux")]
mod cli;

use std::path::PathBuf;

use anyhow::Result;

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the pages go
    dir: PathBuf,
}

/// Writes the pages.
#[cfg(target_os = "linux")]
pub(crate) fn run(args: &Args) -> Result<()> {
    use anyhow::Context as _;
    use parallax_server::http::reference;

    let pages = [
        ("cli.md", cli::markdown()),
        ("http.md", reference::markdown()),
        ("errors.md", reference::errors_markdown()),
    ];
    for (name, text) in pages {
        let path = args.dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Refuses.
#[cfg(not(target_os = "linux"))]
pub(crate) fn run(args: &Args) -> Result<()> {
    let _ = &args.dir; // Nothing is written.
    super::linux_only("docs-reference")
}
