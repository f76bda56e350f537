//! Building each SDK's fixture agent once, outside the checkout.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use super::environment::{CACHE, PATH, variable};

/// An SDK that has a fixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// `sdks/typescript`, run by Node.
    TypeScript,
    /// `sdks/python`, run in a virtual environment.
    Python,
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.folder())
    }
}

impl Language {
    fn folder(self) -> &'static str {
        match self {
            Self::TypeScript => "typescript",
            Self::Python => "python",
        }
    }
}

impl FixtureCommand {
    /// Another program of the SDK's `conformance` folder, by its name without the ending.
    ///
    /// # Panics
    /// When this command is not a fixture of an SDK.
    #[must_use]
    pub fn script(&self, name: &str, args: &[&str]) -> Self {
        let fixture = Path::new(self.argv.last().expect("a fixture has a program"));
        let ending = fixture.extension().expect("a fixture's file has an ending");
        let script = fixture.with_file_name(name).with_extension(ending);
        let mut argv = self.argv.clone();
        argv.pop();
        argv.push(script.display().to_string());
        argv.extend(args.iter().map(|arg| (*arg).to_owned()));
        Self {
            argv,
            ..self.clone()
        }
    }
}

/// How to start a fixture.
#[derive(Clone, Debug)]
pub struct FixtureCommand {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Where it runs.
    pub cwd: PathBuf,
    /// Environment variables beyond those of the case.
    pub env: Vec<(String, String)>,
}

/// Directories that a build leaves behind, or that are not the SDK's.
const NOT_SOURCES: [&str; 8] = [
    "node_modules",
    "dist",
    ".venv",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    "vendor",
    "build",
];

/// Builds the SDK and its fixture, unless this content has been built before.
///
/// The SDK is copied to `<cache>/<language>-<hash of its sources>` and built there, under a file
/// lock, so that test processes at the same time build it once and nothing is written into the
/// checkout. The cache is `$PARALLAX_TEST_CACHE`, or `target/conformance`.
///
/// # Errors
/// When the SDK is missing, a tool (`npm`, `python3`) is missing or a build step fails; the
/// message ends with the step's output.
pub fn prepare(language: Language) -> anyhow::Result<FixtureCommand> {
    static TYPESCRIPT: OnceLock<anyhow::Result<FixtureCommand>> = OnceLock::new();
    static PYTHON: OnceLock<anyhow::Result<FixtureCommand>> = OnceLock::new();
    let once = match language {
        Language::TypeScript => &TYPESCRIPT,
        Language::Python => &PYTHON,
    };
    // A build that failed is not tried again by each case of the run.
    match once.get_or_init(|| prepare_anew(language)) {
        Ok(command) => Ok(command.clone()),
        Err(error) => bail!("{error:#}"),
    }
}

/// What this machine lacks for the SDK's fixture, in words for a skipped test.
#[must_use]
pub fn missing(language: Language) -> Option<String> {
    let programs: &[&str] = match language {
        Language::TypeScript => &["node", "npm"],
        Language::Python => &["python3"],
    };
    let path = variable(PATH).unwrap_or_default();
    let installed =
        |program: &&&str| std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    let missing: Vec<&str> = programs
        .iter()
        .filter(|program| !installed(program))
        .copied()
        .collect();
    (!missing.is_empty()).then(|| {
        format!(
            "the {language} SDK's fixture needs {}: install it",
            missing.join(" and ")
        )
    })
}

fn prepare_anew(language: Language) -> anyhow::Result<FixtureCommand> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root
        .canonicalize()
        .context("finding the repository's root")?;
    let sdk = root.join("sdks").join(language.folder());
    let sources = sources_of(&sdk)?;
    let cache = variable(CACHE).map_or_else(|| root.join("target/conformance"), PathBuf::from);
    fs::create_dir_all(&cache).with_context(|| format!("creating {}", cache.display()))?;
    let _lock = lock(&cache.join(format!("{language}.lock")))?;
    let home = cache.join(format!("{language}-{}", hash_of(&sdk, &sources)?));
    let complete = home.join(".complete");
    if !complete.exists() {
        if home.exists() {
            fs::remove_dir_all(&home).context("removing a build that had not ended")?;
        }
        copy(&sdk, &sources, &home)?;
        build(language, &home)?;
        fs::write(&complete, "").context("marking the build as complete")?;
    }
    Ok(command(language, home))
}

fn build(language: Language, home: &Path) -> anyhow::Result<()> {
    match language {
        Language::TypeScript => {
            step(home, &["npm", "ci", "--no-audit", "--no-fund"])?;
            step(home, &["npm", "run", "build"])
        }
        Language::Python => {
            step(home, &["python3", "-m", "venv", ".venv"])?;
            step(
                home,
                &[".venv/bin/python", "-m", "pip", "install", "-q", "."],
            )
        }
    }
}

fn command(language: Language, home: PathBuf) -> FixtureCommand {
    let argv = match language {
        Language::TypeScript => vec![
            "node".to_owned(),
            format!("{}/conformance/fixture.js", home.display()),
        ],
        Language::Python => vec![
            format!("{}/.venv/bin/python", home.display()),
            format!("{}/conformance/fixture.py", home.display()),
        ],
    };
    let env = match language {
        Language::TypeScript => Vec::new(),
        // Lines as they are printed, not when a buffer is full.
        Language::Python => vec![("PYTHONUNBUFFERED".to_owned(), "1".to_owned())],
    };
    FixtureCommand {
        argv,
        cwd: home,
        env,
    }
}

fn step(home: &Path, argv: &[&str]) -> anyhow::Result<()> {
    let said = argv.join(" ");
    let done = Command::new(argv[0])
        .args(&argv[1..])
        .current_dir(home)
        .output()
        .with_context(|| format!("running `{said}`: is {} installed?", argv[0]))?;
    if !done.status.success() {
        bail!(
            "`{said}` in {} ended with {}:\n{}{}",
            home.display(),
            done.status,
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
    }
    Ok(())
}

fn lock(path: &Path) -> anyhow::Result<File> {
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    flock(&file, FlockOperation::LockExclusive).context("waiting for another build")?;
    Ok(file)
}

/// The SDK's files relative to its folder, in a stable order.
fn sources_of(sdk: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let path = sdk.join(&folder);
        let entries = fs::read_dir(&path)
            .with_context(|| format!("reading the SDK at {}", path.display()))?;
        for entry in entries {
            let entry = entry.context("reading the SDK")?;
            let name = entry.file_name();
            let skipped = name.to_str().is_none_or(|name| {
                NOT_SOURCES.contains(&name) || name.ends_with(".egg-info") || name.ends_with(".pyc")
            });
            if skipped {
                continue;
            }
            let kind = entry.file_type().context("reading the SDK")?;
            if kind.is_dir() {
                folders.push(folder.join(name));
            } else if kind.is_file() {
                found.push(folder.join(name));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn hash_of(sdk: &Path, sources: &[PathBuf]) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    for source in sources {
        let content = fs::read(sdk.join(source)).context("hashing the SDK")?;
        hash.update(source.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    let digest = hash.finalize();
    Ok(digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn copy(sdk: &Path, sources: &[PathBuf], home: &Path) -> anyhow::Result<()> {
    for source in sources {
        let target = home.join(source);
        let folder = target.parent().context("a file has a folder")?;
        fs::create_dir_all(folder).context("copying the SDK")?;
        fs::copy(sdk.join(source), &target).context("copying the SDK")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a source, and with what tools leave behind.
    fn sdk() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (path, content) in [
            ("src/b.ts", "b"),
            ("package.json", "{}"),
            ("node_modules/x/index.js", "x"),
            ("src/__pycache__/a.pyc", "x"),
            ("sdk.egg-info/PKG-INFO", "x"),
        ] {
            let path = dir.path().join(path);
            let folder = path.parent().expect("a file has a folder");
            fs::create_dir_all(folder).expect("a new folder");
            fs::write(path, content).expect("a new file");
        }
        dir
    }

    #[test]
    fn only_sources_are_copied() {
        let (sdk, home) = (sdk(), tempfile::tempdir().expect("a temporary directory"));
        let sources = sources_of(sdk.path()).expect("a readable folder");
        assert_eq!(
            sources,
            [PathBuf::from("package.json"), PathBuf::from("src/b.ts")]
        );
        copy(sdk.path(), &sources, home.path()).expect("a writable folder");
        assert_eq!(sources_of(home.path()).expect("the copy"), sources);
    }

    #[test]
    fn the_hash_follows_names_and_contents() {
        let sdk = sdk();
        let hash = || {
            let sources = sources_of(sdk.path()).expect("a readable folder");
            hash_of(sdk.path(), &sources).expect("readable files")
        };
        let first = hash();
        assert_eq!(first, hash());
        fs::write(sdk.path().join("src/b.ts"), "c").expect("a writable file");
        let changed = hash();
        assert_ne!(first, changed);
        fs::rename(sdk.path().join("src/b.ts"), sdk.path().join("src/d.ts")).expect("a rename");
        assert_ne!(changed, hash());
    }

    #[test]
    fn a_failed_step_says_what_the_tool_said() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let failed = step(
            home.path(),
            &["sh", "-c", "echo no such package >&2; exit 3"],
        );
        let message = failed.expect_err("exit code 3").to_string();
        assert!(
            message.contains("exit status: 3:\nno such package\n"),
            "{message}"
        );
        let absent = step(home.path(), &["parallax-no-such-tool"]);
        let message = absent.expect_err("no such program").to_string();
        assert!(
            message.contains("is parallax-no-such-tool installed?"),
            "{message}"
        );
    }
}
