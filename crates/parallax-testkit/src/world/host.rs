//! A host in a process of its own.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result};
use rustix::process::Signal;
use tokio::process::Child;

use super::processes::signal;
use super::{PATIENCE, World};

/// A started `parallax host`.
#[derive(Debug)]
pub struct SeparateHost {
    name: String,
    child: Child,
}

impl World {
    /// Starts a host and waits until the server says that it is connected.
    ///
    /// # Errors
    /// When it does not connect.
    pub async fn separate_host(&self, name: &str) -> Result<SeparateHost> {
        let token = self.join_token().await?;
        let file = self.token_file(name);
        File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&file)
            .and_then(|mut file| std::io::Write::write_all(&mut file, token.as_bytes()))
            .context("writing the join token")?;
        self.restart_host(name).await
    }

    /// Starts a host that has joined before, with the credential that it got then.
    ///
    /// # Errors
    /// When it does not connect.
    pub async fn restart_host(&self, name: &str) -> Result<SeparateHost> {
        let host = SeparateHost {
            name: name.to_owned(),
            child: self.spawn_host(name)?,
        };
        self.until(&format!("host {name} is connected"), async || {
            let hosts = self.hosts().await?;
            Ok(hosts
                .iter()
                .any(|host| host.name == name && host.connected)
                .then_some(()))
        })
        .await?;
        Ok(host)
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

    fn token_file(&self, name: &str) -> PathBuf {
        self.dir().join(format!("{name}.token"))
    }

    fn spawn_host(&self, name: &str) -> Result<Child> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir().join(format!("host-{name}.log")))
            .context("opening the host's log")?;
        let mut command = self.command();
        command
            .args([
                "host",
                "--server",
                &self.url()?,
                "--name",
                name,
                "--token-file",
            ])
            .arg(self.token_file(name))
            .arg("--data-dir")
            .arg(self.host_dir(name))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        command.spawn().context("starting the host")
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

    /// The host's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}
