//! Archives are looked at one after another, or nearly so: each costs memory and a processor.

use std::sync::Arc;
use std::time::Duration;

use parallax_core::error::{Code, Error, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Archives that are looked at or planned at once. One may take 10 MiB and a processor for some
/// seconds; two keep a large one from holding up the rest.
const AT_ONCE: usize = 2;
/// How long an upload waits for its turn: more than the largest archives before it take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Turns at looking at archives.
#[derive(Debug)]
pub struct Inspections(Arc<Semaphore>);

impl Default for Inspections {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Inspections {
    /// Waits for a turn, which ends when the permit is dropped.
    ///
    /// # Errors
    /// `resource_exhausted` when it does not come within a minute.
    pub async fn turn(&self) -> Result<OwnedSemaphorePermit> {
        let turn = Arc::clone(&self.0).acquire_owned();
        match tokio::time::timeout(PATIENCE, turn).await {
            Ok(turn) => Ok(turn.expect("nothing closes this semaphore")),
            Err(_) => {
                let message = format!(
                    "too many sources were uploaded at once: this one was not looked at within \
                     {} seconds; try again in a moment",
                    PATIENCE.as_secs()
                );
                Err(Error::new(Code::ResourceExhausted, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_archives_are_looked_at_at_once_than_there_are_turns() {
        let inspections = Inspections::default();
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(inspections.turn().await.expect("there is room"));
        }
        assert!(inspections.turn().now_or_never().is_none(), "one waits");
        let refused = inspections.turn().await.expect_err("no turn is given back");
        assert_eq!(refused.code, Code::ResourceExhausted);
        drop(held.pop());
        assert!(inspections.turn().now_or_never().is_some());
    }
}
