//! What the product prints about itself: the OpenAPI document and the reference pages.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::process::Workspace;
use crate::steps::say;
use crate::test::counts::Counts;

const OPENAPI: &str = "openapi/parallax-v1.json";
const REFERENCE: &str = "docs/reference";
/// clap's exit code for a command line that it does not understand.
const USAGE: i32 = 2;

/// Builds the binary and compares, or writes, what it prints.
pub fn run(workspace: &Workspace, check: bool, skipped: &mut Counts) -> Result<()> {
    let binary = workspace.build_product()?;
    openapi(workspace, &binary, check, skipped)?;
    reference(workspace, &binary, check, skipped)
}

fn openapi(workspace: &Workspace, binary: &Path, check: bool, skipped: &mut Counts) -> Result<()> {
    let Some(text) = ask(workspace, binary, &["openapi"])? else {
        skipped.skip(OPENAPI, "the binary has no `openapi` command");
        return Ok(());
    };
    settle(workspace, OPENAPI, &text, check)?;
    say("   OpenAPI: current");
    Ok(())
}

/// `parallax docs-reference DIR` writes one Markdown file a page into DIR.
fn reference(
    workspace: &Workspace,
    binary: &Path,
    check: bool,
    skipped: &mut Counts,
) -> Result<()> {
    let scratch = workspace.root.join("target/codegen/reference");
    super::empty_folder(&scratch)?;
    let dir = scratch.to_string_lossy().into_owned();
    let answer = ask(workspace, binary, &["docs-reference", &dir])?;
    let pages = super::file_names(&scratch)?;
    if answer.is_none() && pages.is_empty() {
        skipped.skip(REFERENCE, "the binary has no `docs-reference` command");
        return Ok(());
    }
    for page in pages {
        let text = fs::read_to_string(scratch.join(&page))?;
        settle(workspace, &format!("{REFERENCE}/{page}"), &text, check)?;
    }
    say("   reference pages: current");
    Ok(())
}

/// What the binary prints, or nothing when it does not know the command.
fn ask(workspace: &Workspace, binary: &Path, args: &[&str]) -> Result<Option<String>> {
    let mut command = workspace.command(binary);
    command.args(args).stdin(Stdio::null());
    let answer = command.output().context("starting the built binary")?;
    let text = String::from_utf8(answer.stdout).context("the binary printed no UTF-8")?;
    if answer.status.success() {
        return Ok((!text.trim().is_empty()).then_some(text));
    }
    if answer.status.code() == Some(USAGE) {
        return Ok(None);
    }
    bail!(
        "`parallax {}` failed: {}\n{}",
        args.join(" "),
        answer.status,
        String::from_utf8_lossy(&answer.stderr)
    )
}

fn settle(workspace: &Workspace, path: &str, text: &str, check: bool) -> Result<()> {
    let file = workspace.root.join(path);
    if !check {
        let folder = file.parent().unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(folder)?;
        return fs::write(&file, text).with_context(|| format!("writing {path}"));
    }
    match fs::read_to_string(&file) {
        Ok(committed) if committed == text => Ok(()),
        Ok(_) => bail!("{path} is stale: run `cargo xtask codegen` and commit the result"),
        Err(error) => Err(error).context(format!("{path}: run `cargo xtask codegen`")),
    }
}
