//! When keys were used last.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;

/// A key's last use is known to the minute, for one write a minute at most.
const EVERY: Duration = Duration::from_secs(60);

pub(crate) async fn run(app: Arc<App>) {
    loop {
        let stops = tokio::select! {
            () = tokio::time::sleep(EVERY) => false,
            () = app.shutdown.cancelled() => true,
        };
        if let Err(error) = app.auth.note_uses().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot note when keys were used"
            );
        }
        if stops {
            return;
        }
    }
}
