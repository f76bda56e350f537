//! `cargo xtask codegen [--check]`: regenerates what is committed although a machine wrote it.
//!
//! Nothing here needs a system `protoc`: protox compiles the .proto files in process.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use prost::Message;
use prost_types::FileDescriptorSet;

use crate::process::{Workspace, run as run_command};
use crate::steps::say;
use crate::test::counts::Counts;

mod append_only;
mod printed;
mod promises;
mod sdk_code;

/// Where the contracts live, relative to the repository's root.
const PROTO_ROOT: &str = "proto";
const PROTO_OUT: &str = "crates/parallax-proto/src/generated";
const DESCRIPTOR: &str = "descriptor.bin";

/// Writes the generated files, or with `check` fails when the committed ones differ.
///
/// Returns what could not be checked here as skips.
pub fn run(workspace: &Workspace, check: bool) -> Result<Counts> {
    let mut skipped = Counts::default();
    let scratch = workspace.root.join("target/codegen/proto");
    empty_folder(&scratch)?;
    let descriptors = compile(&workspace.root)?;
    promises::kept(
        workspace,
        &format!("{PROTO_OUT}/{DESCRIPTOR}"),
        &descriptors,
    )?;
    generate_rust(workspace, descriptors, &scratch)?;
    settle(&scratch, &workspace.root.join(PROTO_OUT), check)?;
    say("   Rust from proto/: current");
    // The document first: what the SDKs know of the HTTP API is made from it.
    printed::run(workspace, check, &mut skipped)?;
    sdk_code::run(workspace, check, &mut skipped)?;
    for skip in &skipped.skipped {
        say(&format!("   skipped {}: {}", skip.name, skip.reason));
    }
    Ok(skipped)
}

fn compile(root: &Path) -> Result<FileDescriptorSet> {
    let include = root.join(PROTO_ROOT);
    let mut files: Vec<PathBuf> = fs::read_dir(include.join("parallax/v1"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "proto"));
    files.sort();
    protox::compile(&files, [&include]).context("compiling the .proto files")
}

fn generate_rust(workspace: &Workspace, from: FileDescriptorSet, out: &Path) -> Result<()> {
    fs::write(out.join(DESCRIPTOR), from.encode_to_vec())?;
    tonic_prost_build::configure()
        .out_dir(out)
        .bytes(".")
        .emit_rerun_if_changed(false)
        .compile_fds(from)
        .context("generating Rust from the descriptors")?;
    // `cargo fmt --check` looks at every file that a module reaches.
    let mut rustfmt = workspace.command(rustfmt_path(workspace));
    rustfmt.args(["--edition", "2024"]);
    for name in file_names(out)? {
        if name.ends_with(".rs") {
            rustfmt.arg(out.join(name));
        }
    }
    run_command(&mut rustfmt)
}

/// The formatter of the toolchain that runs us.
fn rustfmt_path(workspace: &Workspace) -> PathBuf {
    let cargo = workspace.config.cargo.as_ref().map(PathBuf::from);
    cargo
        .map(|cargo| cargo.with_file_name("rustfmt"))
        .filter(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from("rustfmt"))
}

/// An existing and empty folder below `target/`.
fn empty_folder(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("clearing {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))
}

/// Copies `fresh` over `committed`, or with `check` fails when they differ in any file.
fn settle(fresh: &Path, committed: &Path, check: bool) -> Result<()> {
    fs::create_dir_all(committed)?;
    let names = file_names(fresh)?;
    if !check {
        for name in &names {
            fs::copy(fresh.join(name), committed.join(name))?;
        }
    }
    let mut stale = Vec::new();
    for name in &names {
        let (new, old) = (fresh.join(name), committed.join(name));
        if !old.exists() || fs::read(new)? != fs::read(old)? {
            stale.push(name.clone());
        }
    }
    let left_over = file_names(committed)?.into_iter();
    stale.extend(left_over.filter(|name| !names.contains(name)));
    if stale.is_empty() {
        return Ok(());
    }
    bail!(
        "generated files are stale: {} in {}\nrun `cargo xtask codegen`, delete what it no longer writes, and commit the result",
        stale.join(", "),
        committed.display()
    )
}

fn file_names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_missing_and_left_over_files_are_stale() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (fresh, committed) = (dir.path().join("fresh"), dir.path().join("committed"));
        for (folder, name, text) in [
            (&fresh, "same", "1"),
            (&committed, "same", "1"),
            (&fresh, "changed", "1"),
            (&committed, "changed", "2"),
            (&fresh, "missing", "1"),
            (&committed, "left", "1"),
        ] {
            fs::create_dir_all(folder).expect("a folder");
            fs::write(folder.join(name), text).expect("a file");
        }
        let error = settle(&fresh, &committed, true).expect_err("three are stale");
        let text = error.to_string();
        assert!(text.contains("changed, missing, left in"), "{text}");
        settle(&fresh, &committed, false).expect_err("a left-over file is the person's to delete");
        fs::remove_file(committed.join("left")).expect("it was there");
        settle(&fresh, &committed, true).expect("everything was written");
    }
}
