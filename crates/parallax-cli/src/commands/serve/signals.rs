//! How the system and people tell a server to end.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// SIGINT: Ctrl-C, `parallax down`. Replicas drain and stop, too.
    StopAll,
    /// SIGTERM: a service manager restarts the server. Replicas go on, and the next server or host
    /// takes them over.
    LeaveReplicas,
}

/// The signals of this process.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on signals are answered here, and end nothing by themselves.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn catch() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("catching SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("catching SIGTERM")?,
        })
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Ending {
        tokio::select! {
            Some(()) = self.interrupt.recv() => Ending::StopAll,
            Some(()) = self.terminate.recv() => Ending::LeaveReplicas,
            else => std::future::pending().await,
        }
    }

    /// Runs `ending` to its end, unless a second Ctrl-C comes.
    pub(crate) async fn unless_interrupted<T>(
        &mut self,
        ending: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::select! {
            ended = ending => Some(ended),
            Some(()) = self.interrupt.recv() => None,
        }
    }
}
