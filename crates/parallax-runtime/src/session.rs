//! The host's conversation with its control plane: it dials, says what it has, follows what it is
//! told, and dials again for ever.

mod connect;
mod talk;

use std::sync::Arc;
use std::time::Duration;

use parallax_proto::v1::HostFacts;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::build::Connection;
use crate::config::{CredentialSource, HostConfig};
use crate::error::chain;
use crate::hub::Command;
use crate::view::View;

pub(crate) use connect::endpoint;
use talk::Farewell;

/// Everything that a session needs.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) config: Arc<HostConfig>,
    pub(crate) facts: Arc<HostFacts>,
    pub(crate) hub: mpsc::Sender<Command>,
    pub(crate) view: watch::Receiver<View>,
    /// Set while there is contact.
    pub(crate) connections: watch::Sender<Option<Connection>>,
    /// Whether the control plane has ever welcomed the host, or never will.
    pub(crate) ready: watch::Sender<Reception>,
    pub(crate) stop: CancellationToken,
}

/// How the control plane has received the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reception {
    /// There was no contact yet.
    Awaited,
    Welcomed,
    /// The join token is no good, in the control plane's words; asking again would not help.
    Refused(String),
    /// Another session began with the host's credential; this one does not dial again.
    Superseded,
}

/// The shortest wait before dialling again.
const SHORTEST_WAIT: Duration = Duration::from_millis(200);
/// The longest: a server that comes back is found within this time.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

impl Session {
    /// Talks to the control plane until the host stops.
    pub(crate) async fn run(mut self) {
        let mut failures: u32 = 0;
        let stop = self.stop.clone();
        loop {
            let farewell = tokio::select! {
                farewell = Box::pin(self.once()) => farewell,
                () = stop.cancelled() => return,
            };
            self.connections.send_replace(None);
            let wait = match farewell {
                Ok(farewell) if farewell.superseded => {
                    tracing::error!(
                        credential = %self.config.credential.file().display(),
                        "another host uses this host's credential, and has taken its place; \
                         join each with a token of its own (`parallax hosts token`)"
                    );
                    let Some(wait) = self.config.superseded_wait else {
                        self.ready.send_replace(Reception::Superseded);
                        return;
                    };
                    Some(wait)
                }
                Ok(farewell) => {
                    failures = 0;
                    tracing::info!(
                        reason = farewell.reason,
                        "the control plane ended the session"
                    );
                    farewell.wait
                }
                Err(talk::SessionError::Join(status)) if is_final(&status) => {
                    let words = status.message().to_owned();
                    self.ready.send_replace(Reception::Refused(words));
                    return;
                }
                Err(talk::SessionError::Refused(status)) if self.may_join_again(&status) => {
                    let file = self.config.credential.file();
                    tracing::info!(
                        reason = status.message(),
                        "the kept credential is no good; joining with the token"
                    );
                    if let Err(error) = std::fs::remove_file(file) {
                        tracing::error!(%error, file = %file.display(), "cannot be removed");
                    }
                    None
                }
                Err(error) => {
                    failures = if error.was_welcome() {
                        0
                    } else {
                        failures.saturating_add(1)
                    };
                    tracing::warn!(
                        server = self.config.server_url,
                        error = chain(&error),
                        "no contact with the control plane; replicas go on, dialling again"
                    );
                    None
                }
            };
            let wait = wait.unwrap_or_else(|| jitter(failures, random()));
            tokio::select! {
                () = sleep(wait) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Whether the credential that was kept is refused, and a token was given that may buy another.
    fn may_join_again(&self, status: &Status) -> bool {
        let has_token = matches!(self.config.credential, CredentialSource::Join { .. });
        has_token
            && status.code() == Code::Unauthenticated
            && self.config.credential.file().exists()
    }

    async fn once(&mut self) -> Result<Farewell, talk::SessionError> {
        // What was left running must be known before anything is said about it.
        self.view
            .wait_for(|view| view.loaded)
            .await
            .map_err(|_| talk::SessionError::ShuttingDown)?;
        let connection = connect::connect(&self.config, &self.facts).await?;
        talk::talk(self, connection).await
    }
}

/// Whether a token that was refused so will be refused again.
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument
    )
}

/// Full jitter: anywhere between the shortest wait and one that doubles with each failure.
fn jitter(failures: u32, random: u32) -> Duration {
    let ceiling = SHORTEST_WAIT
        .saturating_mul(1 << failures.min(10))
        .min(LONGEST_WAIT);
    let span = ceiling.saturating_sub(SHORTEST_WAIT);
    SHORTEST_WAIT + span.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    // Without entropy hosts only lose their scatter.
    match getrandom::fill(&mut bytes) {
        Ok(()) => u32::from_ne_bytes(bytes),
        Err(_) => u32::MAX / 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_scattered_between_its_bounds() {
        assert_eq!(jitter(0, u32::MAX), SHORTEST_WAIT);
        assert_eq!(jitter(30, 0), SHORTEST_WAIT);
        assert_eq!(jitter(30, u32::MAX), LONGEST_WAIT);
        assert_eq!(jitter(2, u32::MAX), Duration::from_millis(800));
    }
}
