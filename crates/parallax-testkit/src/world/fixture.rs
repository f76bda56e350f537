//! Agents that are deployed without downloading anything.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use parallax_core::manifest::{AgentSpec, IsolationTier, Language};

/// The program of every fixture: `fixtures/agent`.
const FILES: [(&str, &str); 4] = [
    (
        "package.json",
        include_str!("../../fixtures/agent/package.json"),
    ),
    ("main.js", include_str!("../../fixtures/agent/main.js")),
    (
        "session.js",
        include_str!("../../fixtures/agent/session.js"),
    ),
    ("wire.js", include_str!("../../fixtures/agent/wire.js")),
];

/// Long enough for the fixture's drain, short enough for a test.
const STOP_GRACE_MS: u64 = 3_000;

/// An agent to deploy. Its capabilities are `echo` and the idempotent `again`; both take
/// `{after_ms, fail, retryable, die_attempts}` and answer `{echo, replica, revision, version, pid}`.
#[derive(Clone, Debug)]
pub struct Fixture {
    pub spec: AgentSpec,
    files: Vec<(String, String)>,
}

impl Fixture {
    /// An agent that answers at once and says nothing else.
    ///
    /// # Panics
    /// When `name` is no name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let mut spec = AgentSpec::named(name.parse().expect("tests use valid names"));
        spec.language = Some(Language::JavaScript);
        spec.start = Some(words(&["node", "main.js"]));
        spec.stop_grace_ms = STOP_GRACE_MS;
        Self {
            spec,
            files: FILES
                .map(|(path, text)| (path.to_owned(), text.to_owned()))
                .to_vec(),
        }
    }

    /// With so many replicas.
    #[must_use]
    pub fn replicas(mut self, count: u32) -> Self {
        self.spec.replicas = Some(count);
        self
    }

    /// With a variable in its environment, which is not part of the build.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.spec.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Answers with this version; another one is another revision.
    #[must_use]
    pub fn version(self, version: &str) -> Self {
        self.env("FIXTURE_VERSION", version)
    }

    /// `exit` (with 0, at once), `crash` (with 3, at once), `mute` (never registers) or `stubborn`
    /// (ignores SIGTERM).
    #[must_use]
    pub fn mode(self, mode: &str) -> Self {
        self.env("FIXTURE_MODE", mode)
    }

    /// Writes a numbered line so often, and remembers how far it came.
    #[must_use]
    pub fn ticking(self, every_ms: u32) -> Self {
        self.env("FIXTURE_TICK_MS", &every_ms.to_string())
    }

    /// Writes one line of so many bytes before it registers.
    #[must_use]
    pub fn flooding(self, bytes: u64) -> Self {
        self.env("FIXTURE_FLOOD_BYTES", &bytes.to_string())
    }

    /// Starts another program.
    #[must_use]
    pub fn start(mut self, argv: &[&str]) -> Self {
        self.spec.start = Some(words(argv));
        self
    }

    /// Builds with this script, run by node.
    #[must_use]
    pub fn build_script(mut self, script: &str) -> Self {
        let package = r#"{"name":"fixture","version":"1.0.0","private":true,"scripts":{"build":"node build.js","start":"node main.js"}}"#;
        self.files.retain(|(path, _)| path != "package.json");
        self.file("package.json", package).file("build.js", script)
    }

    /// With a further file, which makes it another source.
    #[must_use]
    pub fn file(mut self, path: &str, text: &str) -> Self {
        self.files.push((path.to_owned(), text.to_owned()));
        self
    }

    /// Demands an isolation.
    #[must_use]
    pub fn isolation(mut self, tier: IsolationTier) -> Self {
        self.spec.isolation = tier;
        self
    }

    /// Stops within so many milliseconds or is killed.
    #[must_use]
    pub fn stop_grace_ms(mut self, grace_ms: u64) -> Self {
        self.spec.stop_grace_ms = grace_ms;
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.spec.name.as_str()
    }

    /// The source as tar.gz; the same files give the same bytes.
    ///
    /// # Errors
    /// When a path does not fit an archive.
    pub fn archive(&self) -> Result<Vec<u8>> {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let files: BTreeMap<&str, &str> = self
            .files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect();
        for (path, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive
                .append_data(&mut header, path, text.as_bytes())
                .with_context(|| format!("packing {path}"))?;
        }
        Ok(archive.into_inner()?.finish()?)
    }

    /// Writes the source and its `parallax.toml` into a folder, for `parallax deploy`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_to(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir)?;
        for (path, text) in &self.files {
            std::fs::write(dir.join(path), text)?;
        }
        let spec = &self.spec;
        let mut manifest = format!(
            "name = {:?}\nlanguage = \"javascript\"\nstart = {:?}\n",
            spec.name.as_str(),
            spec.start.as_deref().unwrap_or_default(),
        );
        if let Some(replicas) = spec.replicas {
            manifest.push_str(&format!("replicas = {replicas}\n"));
        }
        manifest.push_str("[env]\n");
        for (name, value) in &spec.env {
            manifest.push_str(&format!("{name} = {value:?}\n"));
        }
        std::fs::write(dir.join("parallax.toml"), manifest).context("writing parallax.toml")
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
