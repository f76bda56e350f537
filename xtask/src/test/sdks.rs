//! The SDKs' tools: the TypeScript build, Python's virtual environment, and both test suites.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::counts::Counts;
use super::foreign::{NodeReader, PytestReader};
use crate::cache::{Cache, content_hash};
use crate::process::{Workspace, output, run, stream};
use crate::steps::say;

const TYPESCRIPT: &str = "sdks/typescript";
const PYTHON: &str = "sdks/python";

/// Why a language's part cannot run here, or nothing.
pub fn missing(workspace: &Workspace, programs: &[&str]) -> Option<String> {
    let missing: Vec<_> = programs
        .iter()
        .filter(|program| workspace.which(program).is_none())
        .copied()
        .collect();
    (!missing.is_empty()).then(|| format!("{} is not installed", missing.join(" and ")))
}

/// Builds the TypeScript SDK unless its build is current; returns its folder.
pub fn build_typescript(workspace: &Workspace, cache: &Cache) -> Result<PathBuf> {
    let dir = workspace.root.join(TYPESCRIPT);
    let _lock = cache.lock("sdk-typescript")?;
    install_node_modules(workspace, cache, &dir)?;
    let hash = content_hash(&[
        dir.join("package.json"),
        dir.join("package-lock.json"),
        dir.join("src"),
        dir.join("tsconfig.json"),
        dir.join("tsconfig.build.json"),
    ])?;
    if !is_stamped(workspace, "typescript-dist", &hash)? || !dir.join("dist/index.js").exists() {
        run(npm(workspace, cache, &dir).args(["run", "--silent", "build"]))?;
        stamp(workspace, "typescript-dist", &hash)?;
    }
    Ok(dir)
}

/// `npm ci` unless what is installed came from the same lock file.
pub fn install_node_modules(workspace: &Workspace, cache: &Cache, dir: &Path) -> Result<()> {
    let hash = content_hash(&[
        dir.join("package.json"),
        dir.join("package-lock.json"),
        dir.join("vendor"),
    ])?;
    let mark = dir.join("node_modules/.parallax-installed");
    let installed = match fs::read_to_string(&mark) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).context(format!("reading {}", mark.display())),
    };
    if installed == hash {
        return Ok(());
    }
    say(&format!("   npm ci in {}", dir.display()));
    run(npm(workspace, cache, dir).args(["ci", "--no-audit", "--no-fund", "--silent"]))?;
    fs::write(&mark, hash).with_context(|| format!("writing {}", mark.display()))
}

/// npm in `dir`; without a home its cache goes beside ours.
pub fn npm(workspace: &Workspace, cache: &Cache, dir: &Path) -> Command {
    let mut command = workspace.command("npm");
    command.current_dir(dir);
    if workspace.config.home.is_none() {
        command.env("npm_config_cache", cache.path("npm"));
        command.env("HOME", cache.path("home"));
    }
    command
}

/// A virtual environment outside the checkout with `requirements` installed, keyed by `key`.
/// Relative requirements start at `dir`.
pub fn python_env(
    workspace: &Workspace,
    cache: &Cache,
    dir: &Path,
    key: &[PathBuf],
    requirements: &[OsString],
) -> Result<PathBuf> {
    let version = python_version(workspace)?;
    let hash = content_hash(key)?;
    cache.once(&format!("venv-{version}-{hash}"), |env| {
        say(&format!("   creating {}", env.display()));
        let mut create = workspace.command("python3");
        run(create.args(["-m", "venv"]).arg(env))?;
        let mut pip = python(workspace, cache, env);
        pip.current_dir(dir);
        pip.args(["-m", "pip", "install", "--quiet"]);
        pip.arg("--disable-pip-version-check");
        run(pip.args(requirements))
    })
}

/// What `python3` is, as part of a folder's name: environments do not outlive their interpreter.
pub fn python_version(workspace: &Workspace) -> Result<String> {
    let version = output(workspace.command("python3").arg("--version"))?;
    let version = String::from_utf8_lossy(&version);
    Ok(version.trim().replace(' ', "-").to_lowercase())
}

/// The interpreter of a virtual environment, told to leave no files in the checkout.
pub fn python(workspace: &Workspace, cache: &Cache, env: &Path) -> Command {
    let mut command = workspace.command(env.join("bin/python"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("VIRTUAL_ENV", env);
    if workspace.config.home.is_none() {
        command.env("PIP_CACHE_DIR", cache.path("pip"));
    }
    command
}

/// The environment of the Python SDK with its development tools; the SDK itself is linked in.
pub fn python_sdk_env(workspace: &Workspace, cache: &Cache) -> Result<PathBuf> {
    let dir = workspace.root.join(PYTHON);
    // The link names the checkout, so that another checkout needs another environment.
    let root = content_hash_of_text(&dir.to_string_lossy());
    fs::create_dir_all(cache.path("roots")).context("creating a cache folder")?;
    let marker = cache.path(&format!("roots/{root}"));
    fs::write(&marker, dir.to_string_lossy().as_bytes()).context("writing a cache key")?;
    let mut requirement = OsString::from(&dir);
    requirement.push("[dev]");
    let key = [dir.join("pyproject.toml"), marker];
    python_env(
        workspace,
        cache,
        &dir,
        &key,
        &["--editable".into(), requirement],
    )
}

fn content_hash_of_text(text: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(text.as_bytes());
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The TypeScript SDK's own tests.
pub fn test_typescript(workspace: &Workspace, cache: &Cache) -> Result<Counts> {
    if let Some(reason) = missing(workspace, &["node", "npm"]) {
        return Ok(skipped(TYPESCRIPT, reason));
    }
    let dir = build_typescript(workspace, cache)?;
    run(npm(workspace, cache, &dir).args(["run", "--silent", "typecheck"]))?;
    node_tests(workspace, cache, &dir, TYPESCRIPT)
}

/// Runs `npm test` in `dir` and counts.
pub fn node_tests(workspace: &Workspace, cache: &Cache, dir: &Path, name: &str) -> Result<Counts> {
    let mut reader = NodeReader::default();
    let mut test = npm(workspace, cache, dir);
    // Into a pipe, Node 20 would write TAP, which is long and hard to read.
    let mut options = workspace.config.node_options.clone();
    options.push(" --test-reporter=spec");
    test.args(["test", "--silent"]).env("NODE_OPTIONS", options);
    let status = stream(&mut test, |line| reader.line(line))?;
    Ok(reader.finish(name, status.success()))
}

/// The Python SDK's own tests.
pub fn test_python(workspace: &Workspace, cache: &Cache) -> Result<Counts> {
    if let Some(reason) = missing(workspace, &["python3"]) {
        return Ok(skipped(PYTHON, reason));
    }
    let env = python_sdk_env(workspace, cache)?;
    let dir = workspace.root.join(PYTHON);
    let mut mypy = python(workspace, cache, &env);
    mypy.current_dir(&dir).args(["-m", "mypy", "--cache-dir"]);
    run(mypy.arg(cache.path("mypy")))?;
    python_tests(workspace, cache, &env, &dir, PYTHON)
}

/// Runs pytest in `dir` and counts.
pub fn python_tests(
    workspace: &Workspace,
    cache: &Cache,
    env: &Path,
    dir: &Path,
    name: &str,
) -> Result<Counts> {
    let mut reader = PytestReader::default();
    let mut pytest = python(workspace, cache, env);
    pytest.current_dir(dir).args(["-m", "pytest", "-rsfE"]);
    pytest.args(["-p", "no:cacheprovider"]);
    let status = stream(&mut pytest, |line| reader.line(line))?;
    Ok(reader.finish(name, status.success()))
}

/// Counts of a group that cannot run at all.
pub fn skipped(name: &str, reason: String) -> Counts {
    let mut counts = Counts::default();
    counts.skip(format!("all tests of {name}"), reason);
    counts
}

fn stamp_path(workspace: &Workspace, name: &str) -> PathBuf {
    workspace.root.join("target/xtask/stamps").join(name)
}

/// Whether the last success of `name` had the same inputs.
pub fn is_stamped(workspace: &Workspace, name: &str, hash: &str) -> Result<bool> {
    let path = stamp_path(workspace, name);
    match fs::read_to_string(&path) {
        Ok(found) => Ok(found == hash),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context(format!("reading {}", path.display())),
    }
}

/// Remembers that `name` succeeded with these inputs.
pub fn stamp(workspace: &Workspace, name: &str, hash: &str) -> Result<()> {
    let path = stamp_path(workspace, name);
    fs::create_dir_all(path.parent().expect("a stamp has a folder"))
        .and_then(|()| fs::write(&path, hash))
        .with_context(|| format!("writing {}", path.display()))
}
