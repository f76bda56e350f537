//! Programs of the SDKs against a world's real server: the fixture agent, run elsewhere, and
//! clients.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use parallax_api::keys::CreateKey;
use parallax_core::key::Scope;
use serde_json::Value;

use super::{PATIENCE, World};
use crate::conformance::{FixtureProcess, Journal, Language, fixtures};

/// A client's whole story, with a deployment and a restart of the server in it.
const STORY_PATIENCE: Duration = Duration::from_secs(180);

/// A running program of an SDK. Killed when dropped.
pub struct SdkProgram {
    process: FixtureProcess,
}

impl World {
    /// A file that holds a new key.
    ///
    /// # Errors
    /// As [`World::create_key`], and when the file cannot be written.
    pub async fn key_file(&self, name: &str, scopes: &[Scope]) -> Result<PathBuf> {
        let key = CreateKey {
            name: name.to_owned(),
            scopes: scopes.to_vec(),
            groups: Vec::new(),
            expires_in_s: None,
        };
        let secret = self.create_key(&key).await?.secret;
        self.secret_file(name, &secret)
    }

    /// A file that only its owner reads.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn secret_file(&self, name: &str, secret: &str) -> Result<PathBuf> {
        let path = self.dir().join(format!("{name}.key"));
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600);
        file.open(&path)
            .and_then(|mut file| file.write_all(secret.as_bytes()))
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Starts the fixture agent of an SDK, `conformance-fixture`, with a key of its own, and waits
    /// until it is connected.
    ///
    /// # Errors
    /// When it does not connect.
    pub async fn sdk_agent(&self, language: Language) -> Result<SdkProgram> {
        let key = self.key_file("fixture", &[Scope::Agent]).await?;
        let mut agent = self.start_sdk_agent(language, &key, &[]).await?;
        agent
            .process
            .ready()
            .await
            .with_context(|| agent.output())?;
        Ok(agent)
    }

    /// Starts the fixture agent of an SDK with a key, and with further variables in its environment.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_sdk_agent(
        &self,
        language: Language,
        key: &Path,
        env: &[(&str, &Path)],
    ) -> Result<SdkProgram> {
        let mut all = vec![("PARALLAX_TOKEN_FILE", key)];
        all.extend_from_slice(env);
        let command = prepared(language).await?;
        self.start_program(&command, &all)
    }

    /// Starts a program of an SDK's `conformance` folder with the admin key.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn sdk_client(
        &self,
        language: Language,
        script: &str,
        args: &[&str],
        env: &[(&str, &Path)],
    ) -> Result<SdkProgram> {
        let key = self.data_dir().join("admin.key");
        let mut all = vec![("PARALLAX_API_KEY_FILE", key.as_path())];
        all.extend_from_slice(env);
        let command = prepared(language).await?.script(script, args);
        self.start_program(&command, &all)
    }

    fn start_program(
        &self,
        command: &fixtures::FixtureCommand,
        env: &[(&str, &Path)],
    ) -> Result<SdkProgram> {
        let mut all = vec![("PARALLAX_URL".to_owned(), self.url()?)];
        let ca = self.ca_file();
        let ca = ca.iter().map(|ca| ("PARALLAX_CA_FILE", ca.as_path()));
        // Later ones win: a test may name another authority.
        for (name, value) in ca.chain(env.iter().copied()) {
            all.push((name.to_owned(), value.display().to_string()));
        }
        let process = FixtureProcess::start(command, &all, Journal::default())?;
        Ok(SdkProgram { process })
    }
}

impl SdkProgram {
    /// Everything that it has printed.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Waits until it has printed `text`.
    ///
    /// # Errors
    /// When it ends before, or does not print it in time.
    pub async fn says(&mut self, world: &World, text: &str) -> Result<()> {
        let said = async || Ok(self.output().contains(text).then_some(()));
        let what = format!("it says {text}");
        let waited = world.within(STORY_PATIENCE, &what, said).await;
        waited.with_context(|| self.output())
    }

    /// Waits for its end, and returns the JSON documents that it printed, one a line.
    ///
    /// # Errors
    /// When it fails, or does not end in time.
    pub async fn documents(mut self) -> Result<Vec<Value>> {
        let ended = self.process.exit("the program ends", STORY_PATIENCE).await;
        let status = ended.with_context(|| self.output())?;
        ensure!(status.success(), "{status}: {}", self.output());
        let output = self.output();
        let lines = output.lines().filter(|line| line.starts_with('{'));
        lines
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }

    /// Waits for its end, which must be a failure, and returns all that it said.
    ///
    /// # Errors
    /// When it succeeds, or does not end in time.
    pub async fn failure(mut self) -> Result<String> {
        let status = self.process.exit("the program ends", PATIENCE).await?;
        ensure!(!status.success(), "it succeeded: {}", self.output());
        Ok(self.output())
    }

    /// Asks it to stop and waits for its end.
    ///
    /// # Errors
    /// When it fails, or does not end in time.
    pub async fn stop(mut self) -> Result<()> {
        self.process.terminate()?;
        let status = self.process.exit("the program ends", PATIENCE).await?;
        if !status.success() {
            bail!("{status}: {}", self.output());
        }
        Ok(())
    }
}

/// Builds on first use, which takes a while and would hold up everything else on this thread.
async fn prepared(language: Language) -> Result<fixtures::FixtureCommand> {
    tokio::task::spawn_blocking(move || fixtures::prepare(language))
        .await
        .context("building the SDK's fixture")?
}
