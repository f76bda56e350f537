//! `cargo xtask codegen [--check]`: regenerates what is committed although a machine wrote it.
//!
//! Nothing here needs a system `protoc`: protox compiles the .proto files in process.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use prost::Message;

/// Where the contracts live, relative to the repository's root.
const PROTO_ROOT: &str = "proto";
const PROTO_OUT: &str = "crates/parallax-proto/src/generated";

/// Writes the generated files, or with `check` fails when the committed ones differ.
pub fn run(root: &Path, check: bool) -> Result<()> {
    let scratch = root.join("target/codegen");
    if scratch.exists() {
        fs::remove_dir_all(&scratch).context("clearing target/codegen")?;
    }
    fs::create_dir_all(&scratch).context("creating target/codegen")?;
    generate_rust(root, &scratch)?;
    let out = root.join(PROTO_OUT);
    if check {
        return compare(&scratch, &out);
    }
    fs::create_dir_all(&out)?;
    for name in file_names(&scratch)? {
        fs::copy(scratch.join(&name), out.join(&name))?;
    }
    Ok(())
}

fn generate_rust(root: &Path, out: &Path) -> Result<()> {
    let include = root.join(PROTO_ROOT);
    let mut files: Vec<PathBuf> = fs::read_dir(include.join("parallax/v1"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "proto"));
    files.sort();
    let descriptors = protox::compile(&files, [&include]).context("compiling the .proto files")?;
    fs::write(out.join("descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .out_dir(out)
        .bytes(".")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)
        .context("generating Rust from the descriptors")
}

fn compare(fresh: &Path, committed: &Path) -> Result<()> {
    let mut stale = Vec::new();
    for name in file_names(fresh)? {
        let new = fs::read(fresh.join(&name))?;
        let old = fs::read(committed.join(&name)).unwrap_or_else(|_| Vec::new());
        if new != old {
            stale.push(name);
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    bail!(
        "generated files are stale: {} in {}\nrun `cargo xtask codegen` and commit the result",
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
