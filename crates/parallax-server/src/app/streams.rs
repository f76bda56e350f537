//! When streams must end: every transport asks here.

use std::time::Duration;

use parallax_core::error::{Code, Error, Result};
use parallax_core::key::Principal;

use super::App;

/// Before a credential is looked at again that could not be looked up.
const AGAIN: Duration = Duration::from_secs(2);

impl App {
    /// Returns why a stream of this principal must end, once it must: the server stops, or the
    /// credential is good no more. A database that is away says nothing about a credential.
    pub async fn stream_end(&self, principal: &Principal) -> Error {
        let mut revocations = self.auth.changes();
        let mut unsure = false;
        let expiry = self.auth.expiry(principal);
        tokio::pin!(expiry);
        let shutdown = self.shutdown.cancelled();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return stops(),
                () = &mut expiry => {}
                Ok(()) = revocations.changed() => {}
                () = tokio::time::sleep(AGAIN), if unsure => {}
            }
            // Boxed: it may read the store, which is a large future to keep for each stream.
            match Box::pin(self.auth.recheck(principal)).await {
                Ok(()) => unsure = false,
                Err(error) if error.code == Code::StoreUnavailable => unsure = true,
                Err(error) => return error,
            }
            // It may have been renewed meanwhile.
            expiry.set(self.auth.expiry(principal));
        }
    }

    /// Looks at once whether a stream must end: a busy peer leaves no time to notice
    /// [`Self::stream_end`].
    ///
    /// # Errors
    /// Why it must.
    pub async fn check_stream(&self, principal: &Principal) -> Result<()> {
        if self.shutdown.is_cancelled() {
            return Err(stops());
        }
        match Box::pin(self.auth.recheck(principal)).await {
            Err(error) if error.code == Code::StoreUnavailable => Ok(()),
            checked => checked,
        }
    }
}

fn stops() -> Error {
    let message = "the server is stopping; come back in a moment";
    Error::new(Code::ShuttingDown, message)
}
