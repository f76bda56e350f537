//! The SDKs' own generated messages, by each SDK's own generator.

use anyhow::Result;

use crate::cache::{Cache, content_hash};
use crate::process::{Workspace, run as run_command};
use crate::steps::say;
use crate::test::counts::Counts;
use crate::test::sdks;

/// Generates, or with `check` compares; what was compared before with the same inputs is not again.
pub fn run(workspace: &Workspace, check: bool, skipped: &mut Counts) -> Result<()> {
    let cache = Cache::open(&workspace.config)?;
    typescript(workspace, &cache, check, skipped)?;
    python(workspace, &cache, check, skipped)
}

fn typescript(
    workspace: &Workspace,
    cache: &Cache,
    check: bool,
    skipped: &mut Counts,
) -> Result<()> {
    if let Some(reason) = sdks::missing(workspace, &["node", "npm"]) {
        skipped.skip("generated code of sdks/typescript", reason);
        return Ok(());
    }
    let dir = workspace.root.join("sdks/typescript");
    let inputs = || {
        content_hash(&[
            workspace.root.join("proto"),
            workspace.root.join("openapi"),
            dir.join("src/gen"),
            dir.join("scripts"),
            dir.join("package.json"),
        ])
    };
    once(workspace, check, "typescript-generated", inputs, || {
        let mut generate = sdks::npm(workspace, cache, &dir);
        generate.args(["run", "--silent", "generate"]);
        if check {
            generate.args(["--", "--check"]);
        }
        run_command(&mut generate)
    })
}

fn python(workspace: &Workspace, cache: &Cache, check: bool, skipped: &mut Counts) -> Result<()> {
    if let Some(reason) = sdks::missing(workspace, &["python3"]) {
        skipped.skip("generated code of sdks/python", reason);
        return Ok(());
    }
    let dir = workspace.root.join("sdks/python");
    let inputs = || {
        content_hash(&[
            workspace.root.join("proto"),
            workspace.root.join("openapi"),
            dir.join("src/parallax_sdk/_generated"),
            dir.join("scripts"),
            dir.join("pyproject.toml"),
        ])
    };
    once(workspace, check, "python-generated", inputs, || {
        let env = sdks::python_sdk_env(workspace, cache)?;
        let mut generate = sdks::python(workspace, cache, &env);
        generate.arg(dir.join("scripts/generate.py"));
        if check {
            generate.arg("--check");
        }
        run_command(&mut generate)
    })
}

fn once(
    workspace: &Workspace,
    check: bool,
    name: &str,
    inputs: impl Fn() -> Result<String>,
    generate: impl FnOnce() -> Result<()>,
) -> Result<()> {
    if check && sdks::is_stamped(workspace, name, &inputs()?)? {
        say(&format!("   {name}: current, compared before"));
        return Ok(());
    }
    generate()?;
    sdks::stamp(workspace, name, &inputs()?)?;
    say(&format!("   {name}: current"));
    Ok(())
}
