//! Which program an argv of a plan means on this machine.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::plan::Plan;
use crate::toolchain::Toolchain;

/// The program of `argv[0]`: with a `/` it is relative to `cwd`; the runtime's own name is the
/// chosen runtime, whatever the search path holds; a package manager is the one that was found.
/// Anything else is left to the search path.
#[must_use]
pub fn resolve_program(program: &str, cwd: &Path, plan: &Plan, toolchain: &Toolchain) -> PathBuf {
    if program.contains('/') {
        // Without `./`: people read it in lists of processes.
        return cwd.join(program).components().collect();
    }
    if program == plan.runtime.name {
        return plan.runtime.resolved.path.clone();
    }
    let tool = toolchain
        .tools
        .iter()
        .find(|tool| tool.kind.program() == program);
    tool.map_or_else(|| PathBuf::from(program), |tool| tool.path.clone())
}

/// The `PATH` for a step or a replica in `root` (the agent's own folder): the plan's folders, then
/// the runtime's, then those of the other tools, then `rest`.
///
/// # Errors
/// When a folder's name contains a `:`.
pub fn search_path(
    plan: &Plan,
    toolchain: &Toolchain,
    root: &Path,
    rest: &OsStr,
) -> Result<OsString, std::env::JoinPathsError> {
    let parent = |path: &Path| path.parent().map(Path::to_owned);
    let mut folders: Vec<PathBuf> = plan.start.path.iter().map(|path| root.join(path)).collect();
    folders.extend(parent(&plan.runtime.resolved.path));
    folders.extend(toolchain.tools.iter().filter_map(|tool| parent(&tool.path)));
    folders.extend(std::env::split_paths(rest));
    let mut unique: Vec<PathBuf> = Vec::new();
    for folder in folders {
        if folder.is_absolute() && !unique.contains(&folder) {
            unique.push(folder);
        }
    }
    std::env::join_paths(unique)
}
