//! Waiting for what no single answer announces.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, sleep};

use super::{PATIENCE, World};

/// Between two looks: below what a test notices, above what keeps the machine busy.
const POLL: Duration = Duration::from_millis(40);

impl World {
    /// Looks until there is something.
    ///
    /// # Errors
    /// When there is nothing within [`PATIENCE`], with the last error and the world's story.
    pub async fn until<T>(
        &self,
        what: &str,
        look: impl AsyncFnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        self.within(PATIENCE, what, look).await
    }

    /// As [`World::until`], for as long as `patience`.
    ///
    /// # Errors
    /// As [`World::until`].
    pub async fn within<T>(
        &self,
        patience: Duration,
        what: &str,
        mut look: impl AsyncFnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            let last = match look().await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => None,
                Err(error) => Some(error),
            };
            if Instant::now() < deadline {
                sleep(POLL).await;
                continue;
            }
            let story = self.story().await;
            match last {
                Some(error) => {
                    return Err(error)
                        .with_context(|| format!("waited in vain until {what}\n{story}"));
                }
                None => bail!("waited in vain until {what}\n{story}"),
            }
        }
    }
}
