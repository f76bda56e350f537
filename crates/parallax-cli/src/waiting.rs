//! What all waits have in common: a server that restarts meanwhile, and Ctrl-C.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::sleep;

use crate::exit::{self, Ended, Exit};
use crate::output::{Progress, chain};

/// Before a stream or a look that failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often in a row: a minute covers the restart of a server, also by hand.
const MAX_FAILURES: u32 = 60;

/// Bears with a server that is away for a moment.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    failures: u32,
}

impl Patience {
    /// The server answers.
    pub(crate) fn answered(&mut self, progress: &Progress) {
        if self.failures > 0 {
            progress.line("the server is back");
        }
        self.failures = 0;
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// `error`, when it will not go away by itself, or has not for long enough.
    pub(crate) async fn after(&mut self, error: anyhow::Error, progress: &Progress) -> Result<()> {
        let away = matches!(exit::of(&error), Exit::Unavailable | Exit::Deadline);
        if !away || self.failures >= MAX_FAILURES {
            return Err(error);
        }
        if self.failures == 0 {
            let seconds = AGAIN_AFTER.as_secs() * u64::from(MAX_FAILURES);
            progress.line(format_args!(
                "{}; trying again for {seconds} s",
                chain(&error)
            ));
        }
        self.failures += 1;
        pause().await;
        Ok(())
    }
}

/// Before a stream that has ended is opened again.
pub(crate) async fn pause() {
    sleep(AGAIN_AFTER).await;
}

/// Waits until the end, or until Ctrl-C; then `goes_on` says what does.
///
/// # Errors
/// Those of `wait`; [`Exit::Interrupted`] after Ctrl-C.
pub(crate) async fn unless_interrupted<T>(
    wait: impl Future<Output = Result<T>>,
    goes_on: impl Into<String>,
) -> Result<T> {
    tokio::select! {
        // From before the wait says anything, Ctrl-C is caught.
        biased;
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("catching Ctrl-C")?;
            Err(Ended::new(Exit::Interrupted, goes_on).into())
        }
        ended = wait => ended,
    }
}
