//! A host in a process of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tokio::process::{Child, Command};

use super::processes::signal;
use super::{PATIENCE, World};

/// A started `parallax host`.
#[derive(Debug)]
pub struct SeparateHost {
    name: String,
    child: Child,
    log_file: PathBuf,
}

impl World {
    /// Starts a host and waits until the server says that it is connected.
    ///
    /// # Errors
    /// When it does not connect.
    pub async fn separate_host(&self, name: &str) -> Result<SeparateHost> {
        let token = self.join_token().await?;
        let ca = self.ca_file();
        let host = self.start_host(name, &token, ca.as_deref()).await?;
        self.until_host(name).await?;
        Ok(host)
    }

    /// Starts a host with a token, and with the authority that it trusts.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_host(
        &self,
        name: &str,
        token: &str,
        ca_file: Option<&Path>,
    ) -> Result<SeparateHost> {
        let mut command = self.host_command(name, token)?;
        if let Some(file) = ca_file {
            command.env("PARALLAX_CA_FILE", file);
        }
        self.spawn_host(name, command)
    }

    /// Starts a host that is expected to end by itself, and returns how and with which words.
    ///
    /// # Errors
    /// When it goes on running.
    pub async fn refused_host(&self, name: &str, token: &str) -> Result<(ExitStatus, String)> {
        let mut command = self.host_command(name, token)?;
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output())
            .await
            .with_context(|| format!("{command:?} goes on although it should be refused"))??;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((output.status, words))
    }

    /// Starts a host that has joined before, with the credential that it got then.
    ///
    /// # Errors
    /// When it does not connect.
    pub async fn restart_host(&self, name: &str) -> Result<SeparateHost> {
        let host = self.spawn_host(name, self.host_arguments(name)?)?;
        self.until_host(name).await?;
        Ok(host)
    }

    /// Starts a copy of a host that has joined: another folder, the same credential.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn copied_host(&self, of: &str, name: &str) -> Result<SeparateHost> {
        fs::create_dir_all(self.host_dir(name))?;
        let credential = |host| self.host_dir(host).join("host.key");
        fs::copy(credential(of), credential(name)).context("copying a credential")?;
        self.spawn_host(name, self.host_arguments(name)?)
    }

    /// Waits until the server says that a host is connected.
    ///
    /// # Errors
    /// When it does not connect.
    pub async fn until_host(&self, name: &str) -> Result<()> {
        self.until(&format!("host {name} is connected"), async || {
            let hosts = self.hosts().await?;
            Ok(hosts
                .iter()
                .any(|host| host.name == name && host.connected)
                .then_some(()))
        })
        .await
    }

    /// The folder of a separate host.
    #[must_use]
    pub fn host_dir(&self, name: &str) -> PathBuf {
        self.dir().join(format!("host-{name}"))
    }

    /// Ends a separate host and everything that it runs.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn end_host(&self, mut host: SeparateHost) -> Result<()> {
        let pid = host.child.id().context("the host has ended already")?;
        signal(pid, Signal::INT).context("interrupting the host")?;
        tokio::time::timeout(PATIENCE, host.child.wait())
            .await
            .with_context(|| format!("host {} lives on\n{}", host.name, self.log_tail()))??;
        Ok(())
    }

    /// Stops what a host that has ended left running, as a person does.
    ///
    /// # Errors
    /// When `parallax down` fails.
    pub async fn down_of_host(&self, name: &str) -> Result<()> {
        let mut command = self.client_command();
        command
            .args(["down", "--data-dir"])
            .arg(self.host_dir(name));
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output())
            .await
            .with_context(|| format!("{command:?} did not end"))??;
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    }

    fn host_command(&self, name: &str, token: &str) -> Result<Command> {
        let file = self.secret_file(&format!("{name}-token"), token)?;
        let mut command = self.host_arguments(name)?;
        command.arg("--token-file").arg(file);
        Ok(command)
    }

    fn host_arguments(&self, name: &str) -> Result<Command> {
        let mut command = self.client_command();
        command
            .args(["host", "--server", &self.url()?, "--name", name])
            .arg("--data-dir")
            .arg(self.host_dir(name));
        Ok(command)
    }

    fn spawn_host(&self, name: &str, mut command: Command) -> Result<SeparateHost> {
        let log_file = self.dir().join(format!("host-{name}.log"));
        let log = File::options().create(true).append(true).open(&log_file);
        let log = log.context("opening the host's log")?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        Ok(SeparateHost {
            name: name.to_owned(),
            child: command.spawn().context("starting the host")?,
            log_file,
        })
    }
}

impl SeparateHost {
    /// Kills the host without a warning; its replicas go on.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn kill9(mut self) -> Result<()> {
        self.child.kill().await.context("killing the host")
    }

    /// Waits until it has ended by itself; returns how, and all that it has said.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn ended(mut self) -> Result<(ExitStatus, String)> {
        let status = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .with_context(|| format!("host {} lives on", self.name))??;
        Ok((status, fs::read_to_string(&self.log_file)?))
    }

    /// Waits until it has logged `text`.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn says(&mut self, world: &World, text: &str) -> Result<()> {
        let what = format!("host {} says {text}", self.name);
        let log_file = &self.log_file;
        let said = async || Ok(fs::read_to_string(log_file)?.contains(text).then_some(()));
        world.until(&what, said).await
    }

    /// The host's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}
