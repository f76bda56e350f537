//! Whether the server takes work.

use std::time::Duration;

use parallax_core::error::{Code, Error, Result};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::App;

/// How long a look is good for: whoever asks more often hears of the last one, so that nobody who
/// needs no credential can keep the database busy.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// With less than this left, values and sources are refused before long, also where a small write
/// still finds a place: as much as the largest body of a request.
const MIN_ROOM_BYTES: u64 = 1 << 20;

/// The last try to write.
#[derive(Debug, Default)]
pub struct Readiness {
    last: Mutex<Option<Look>>,
}

#[derive(Debug)]
struct Look {
    at: Instant,
    refused: Option<(Code, String)>,
}

impl App {
    /// Whether the server takes work: it is not stopping, and the database takes a write.
    ///
    /// # Errors
    /// `shutting_down`, and what the database said, above all `storage_full` and
    /// `store_unavailable`.
    pub async fn check_ready(&self) -> Result<()> {
        if self.shutdown.is_cancelled() {
            return Err(Error::new(Code::ShuttingDown, "the server is stopping"));
        }
        // Held while it is tried: those who ask meanwhile wait for the same answer.
        let mut last = self.readiness.last.lock().await;
        let look = match last.take().filter(|look| look.at.elapsed() < GOOD_FOR) {
            Some(look) => look,
            None => self.try_to_write().await,
        };
        let refused = look.refused.clone();
        *last = Some(look);
        match refused {
            None => Ok(()),
            Some((code, message)) => Err(Error::new(code, message)),
        }
    }

    async fn try_to_write(&self) -> Look {
        let tried = self.store.check_writable().await.map_err(Error::from);
        let refused = tried.and_then(|()| self.check_room()).err().map(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, source = ?error.source, "not ready");
            (error.code, format!("not ready: {}", error.message))
        });
        Look {
            at: Instant::now(),
            refused,
        }
    }

    fn check_room(&self) -> Result<()> {
        let left = self.blobs.room_bytes()?;
        if left >= MIN_ROOM_BYTES {
            return Ok(());
        }
        let message = format!("the disk with the data has {left} bytes left; free some space");
        Err(Error::new(Code::StorageFull, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn a_server_whose_writes_fail_says_why_it_is_not_ready() {
        let world = World::new().await;
        world.app.check_ready().await.expect("it writes");
        world.app.store.close().await;
        world.app.check_ready().await.expect("the last look counts");
        *world.app.readiness.last.lock().await = None;
        let refused = world
            .app
            .check_ready()
            .await
            .expect_err("nothing is written");
        assert_eq!(refused.code, Code::StoreUnavailable);
        assert!(refused.message.starts_with("not ready: "), "{refused}");
        let again = world.app.check_ready().await.expect_err("the same answer");
        assert_eq!(again.message, refused.message);
        world.app.shutdown.cancel();
        let refused = world.app.check_ready().await.expect_err("it stops");
        assert_eq!(refused.code, Code::ShuttingDown);
    }
}
