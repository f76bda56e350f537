//! What a case starts with.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;
use tonic::Status;

use super::breach::{Breach, check};
use super::fixtures::{self, FixtureCommand, Language};
use super::journal::Journal;
use super::link::{self, Arrival, Link, Ruling};
use super::process::FixtureProcess;
use super::server::{Call, ScriptedServer, Terms};
use super::tls::PrivateCa;
use super::{CONNECT_PATIENCE, PATIENCE};

/// The concurrency that every fixture declares.
pub(super) const FIXTURE_CONCURRENCY: u32 = 4;

/// The first token of every case.
const TOKEN: &str = "plx_conformance_token_one";

/// Runs one case against one SDK, and panics with the breach and the journal when it fails.
///
/// # Panics
/// When the case fails; also when the fixture cannot be built.
pub fn run(language: Language, case: impl AsyncFnOnce(&Lab) -> anyhow::Result<()>) {
    let command = match fixtures::prepare(language) {
        Ok(command) => command,
        Err(error) => panic!("cannot prepare the {language} fixture: {error:#}"),
    };
    let lab = Lab::of(command);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs no more than a few file descriptors");
    if let Err(failure) = runtime.block_on(case(&lab)) {
        panic!(
            "the {language} SDK does not conform\n      {failure:#}\n\njournal:\n{}",
            lab.journal.text()
        );
    }
}

/// One SDK's fixture and the account of the case.
pub struct Lab {
    command: FixtureCommand,
    journal: Journal,
}

/// How a case wants its server and its agent.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// What the Welcome says.
    pub terms: Terms,
    /// TLS with a certificate of a private authority.
    pub tls: bool,
    /// The agent's `PARALLAX_CA_FILE` holds another authority than the server's.
    pub wrong_ca: bool,
    /// Further environment variables of the agent.
    pub env: Vec<(String, String)>,
}

/// A server and an agent that dials it.
pub struct Stage {
    /// The case's server.
    pub server: ScriptedServer,
    /// The SDK's fixture.
    pub process: FixtureProcess,
    /// What the next Welcome says.
    pub terms: Terms,
    token: String,
    token_file: PathBuf,
    journal: Journal,
    _files: TempDir,
}

impl Lab {
    /// A lab for any program that speaks as the fixtures do.
    #[must_use]
    pub fn of(command: FixtureCommand) -> Self {
        Self {
            command,
            journal: Journal::default(),
        }
    }

    /// The account of the case so far.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Starts a server and the fixture.
    ///
    /// # Errors
    /// When either cannot be started.
    pub async fn stage(&self, setup: Setup) -> anyhow::Result<Stage> {
        let files = tempfile::tempdir().context("making a directory for the token")?;
        let ca = if setup.tls {
            Some(PrivateCa::new()?)
        } else {
            None
        };
        let server = ScriptedServer::start(ca.as_ref(), self.journal.clone()).await?;
        let token_file = files.path().join("token");
        let mut env = vec![
            ("PARALLAX_URL".to_owned(), server.url()),
            ("PARALLAX_TOKEN_FILE".to_owned(), path_text(&token_file)?),
        ];
        if let Some(ca) = ca {
            let ca_file = files.path().join("ca.pem");
            let trusted = if setup.wrong_ca {
                PrivateCa::new()?
            } else {
                ca
            };
            fs::write(&ca_file, trusted.root_pem).context("writing the CA file")?;
            env.push(("PARALLAX_CA_FILE".to_owned(), path_text(&ca_file)?));
        }
        env.extend(setup.env);
        write_token(&token_file, TOKEN)?;
        let process = FixtureProcess::start(&self.command, &env, self.journal.clone())?;
        Ok(Stage {
            server,
            process,
            terms: setup.terms,
            token: TOKEN.to_owned(),
            token_file,
            journal: self.journal.clone(),
            _files: files,
        })
    }

    /// Starts a server and the fixture, and lets it in.
    ///
    /// # Errors
    /// When either cannot be started, or the agent does not connect.
    pub async fn connected(&self) -> anyhow::Result<(Stage, Link)> {
        self.connected_with(Setup::default()).await
    }

    /// As [`Lab::connected`], set up so.
    ///
    /// # Errors
    /// As [`Lab::connected`].
    pub async fn connected_with(&self, setup: Setup) -> anyhow::Result<(Stage, Link)> {
        let mut stage = self.stage(setup).await?;
        let link = stage.connect(&[]).await?;
        Ok((stage, link))
    }
}

fn path_text(path: &std::path::Path) -> anyhow::Result<String> {
    let text = path
        .to_str()
        .context("the temporary directory's name is not UTF-8")?;
    Ok(text.to_owned())
}

/// With a line end that an editor may leave behind: SDKs trim it.
fn write_token(file: &std::path::Path, token: &str) -> anyhow::Result<()> {
    fs::write(file, format!("{token}\r\n")).context("writing the token file")
}

impl Stage {
    /// The token that the agent should present now.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Replaces the token file's content, as a credential's renewal does.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn renew_token(&mut self, token: &str) -> anyhow::Result<()> {
        token.clone_into(&mut self.token);
        write_token(&self.token_file, token)
    }

    /// Waits for the agent's next session and its Hello.
    ///
    /// # Errors
    /// A [`Breach`] when none comes or it does not start with Hello and the token.
    pub async fn arrival(&mut self) -> anyhow::Result<Arrival> {
        let call = self.call().await?;
        let terms = self.terms.clone();
        let arrival = self.server.greet(call, terms, FIXTURE_CONCURRENCY).await?;
        let expected = format!("Bearer {}", self.token);
        check(
            arrival.authorization.as_deref() == Some(&expected),
            &format!(
                "metadata `authorization: {expected}`, as the token file says at each connect"
            ),
            || format!("sent {:?}", arrival.authorization),
        )?;
        Ok(arrival)
    }

    /// Waits for the agent's next session and lets it in, with these rulings on its inventory.
    ///
    /// # Errors
    /// As [`Stage::arrival`] and [`Arrival::welcome`].
    pub async fn connect(&mut self, rulings: &[Ruling]) -> anyhow::Result<Link> {
        self.arrival().await?.welcome(rulings).await
    }

    /// Answers the agent's next session with a status, before it reads the Hello.
    ///
    /// # Errors
    /// A [`Breach`] when no session comes.
    pub async fn refuse_next(&mut self, status: Status) -> anyhow::Result<()> {
        let call = self.call().await?;
        self.journal
            .note("server→", &format!("refuses: {status:?}"));
        link::refuse(call, status);
        Ok(())
    }

    /// Waits for the process's end and shows that it did not dial again.
    ///
    /// # Errors
    /// A [`Breach`] of `wanted` when it lives on or has dialled.
    pub async fn gone(&mut self, wanted: &str) -> anyhow::Result<std::process::ExitStatus> {
        let status = self.process.exit(wanted, PATIENCE).await?;
        check(
            !self.server.has_caller(),
            wanted,
            || "opened a new session before it ended",
        )?;
        Ok(status)
    }

    async fn call(&mut self) -> anyhow::Result<Call> {
        tokio::select! {
            call = self.server.next_call(CONNECT_PATIENCE) => Ok(call.ok_or_else(|| {
                Breach::new(
                    "the agent opens a session (after a lost one, within the longest backoff)",
                    format!("did not within {CONNECT_PATIENCE:?}"),
                )
            })?),
            status = self.process.exit("", CONNECT_PATIENCE * 2) => {
                Err(Breach::new("the agent opens a session", format!("ended: {}", status?)).into())
            }
        }
    }
}

/// The status that asks an agent to come back after `delay`.
#[must_use]
pub fn unavailable_for(delay: Duration) -> Status {
    let mut status = Status::unavailable("too many handshakes at once");
    let millis = delay.as_millis().to_string();
    status.metadata_mut().insert(
        "retry-after-ms",
        millis.parse().expect("digits are valid metadata"),
    );
    status
}
