//! Package managers that no machine comes with and the tests of builds need: pnpm, yarn and uv.
//!
//! They come from the registries of the languages into a folder outside the checkout. Where that is
//! impossible the tests that need them skip themselves and say so.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::sdks;
use crate::cache::Cache;
use crate::process::{Workspace, run};
use crate::steps::say;

/// What npm installs, each into a folder of its own name.
const FROM_NPM: [&str; 2] = ["pnpm@10.34.9", "yarn@1.22.22"];
/// What pip installs, likewise.
const FROM_PIP: [&str; 1] = ["uv==0.13.9"];

/// The folder with all of them, or nothing where they cannot be had.
pub fn install(workspace: &Workspace, cache: &Cache) -> Option<PathBuf> {
    let missing = sdks::missing(workspace, &["node", "npm", "python3"]);
    let installed = match missing {
        Some(why) => Err(anyhow::anyhow!(why)),
        None => cached(workspace, cache),
    };
    installed
        .inspect_err(|error| {
            say(&format!(
                "   no pnpm, yarn and uv ({error:#}); tests that need them will be skipped"
            ));
        })
        .ok()
}

fn cached(workspace: &Workspace, cache: &Cache) -> Result<PathBuf> {
    let python = sdks::python_version(workspace)?;
    let names = [FROM_NPM.as_slice(), &FROM_PIP].concat().join("-");
    cache.once(&format!("managers-{names}-{python}"), |dir| {
        say(&format!("   installing {names} into {}", dir.display()));
        for package in FROM_NPM {
            let name = package.split('@').next().unwrap_or(package);
            let mut npm = sdks::npm(workspace, cache, dir);
            npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]);
            run(npm.arg(dir.join(name)).arg(package))?;
        }
        FROM_PIP
            .iter()
            .try_for_each(|requirement| from_pip(workspace, cache, dir, requirement))
    })
}

fn from_pip(workspace: &Workspace, cache: &Cache, dir: &Path, requirement: &str) -> Result<()> {
    let env = dir.join(requirement.split('=').next().unwrap_or(requirement));
    run(workspace.command("python3").args(["-m", "venv"]).arg(&env))?;
    let mut pip = sdks::python(workspace, cache, &env);
    pip.args(["-m", "pip", "install", "--quiet"]);
    run(pip.args(["--disable-pip-version-check", requirement]))
}
