//! The key under which filled dependency folders are kept.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::digest::{TreeDigest, digest_folder, hash_of};
use super::error::PackError;
use super::exclude::Excludes;
use super::limits::Limits;
use crate::plan::{Phase, Plan};
use crate::toolchain::Toolchain;
use crate::tree::SourceTree;

/// Raised when the meaning of a key changes.
const KEY_VERSION: &[u8] = b"parallax-dependencies-1\n";

/// The key of what the plan's install steps would produce: equal keys, equal dependencies. `None`
/// when the plan names no inputs, so that nothing may be cached.
///
/// # Errors
/// When an input cannot be read, or leads out of the source.
pub fn cache_key(
    plan: &Plan,
    toolchain: &Toolchain,
    tree: &SourceTree,
) -> Result<Option<String>, PackError> {
    if plan.cache_inputs.is_empty() {
        return Ok(None);
    }
    let mut hasher = Sha256::new();
    hasher.update(KEY_VERSION);
    let mut field = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    field(std::env::consts::ARCH.as_bytes());
    field(plan.root_dir.as_bytes());
    field(plan.runtime.resolved.version.as_bytes());
    field(plan.runtime.resolved.path.as_os_str().as_encoded_bytes());
    for tool in &toolchain.tools {
        field(tool.kind.program().as_bytes());
        field(tool.version.as_bytes());
    }
    for step in plan.steps.iter().filter(|step| step.phase != Phase::Build) {
        field(step.cwd.as_bytes());
        step.argv.iter().for_each(|word| field(word.as_bytes()));
        for (key, value) in &step.env {
            field(key.as_bytes());
            field(value.as_bytes());
        }
    }
    for input in &plan.cache_inputs {
        field(input.as_bytes());
        field(&input_digest(tree.root(), input)?);
    }
    let key: TreeKey = hasher.finalize().into();
    Ok(Some(key.iter().map(|byte| format!("{byte:02x}")).collect()))
}

type TreeKey = [u8; 32];

/// A file's content or a folder's tree; a missing input counts as such.
fn input_digest(root: &Path, input: &str) -> Result<Vec<u8>, PackError> {
    let path = root.join(input);
    let failed = |source| PackError::Read {
        path: path.clone(),
        source,
    };
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    if !real.starts_with(root) {
        return Err(PackError::LinkEscapes { path, target: real });
    }
    if real.is_dir() {
        let excludes = Excludes::none(&real)?;
        let digest: TreeDigest = digest_folder(&real, &excludes, &Limits::default())?;
        return Ok(digest.as_bytes().to_vec());
    }
    let file = std::fs::File::open(&real).map_err(failed)?;
    Ok(hash_of(file).map_err(failed)?.to_vec())
}
