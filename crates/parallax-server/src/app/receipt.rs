//! What a repeated request is answered with: written in the transaction of the change itself, so
//! that a server that dies cannot have done the one and not the other.

use std::fmt;
use std::sync::Arc;

use parallax_core::error::Result;
use parallax_core::time::Timestamp;
use parallax_store::Tx;
use parallax_store::idempotency::{self, Answer};

/// Leaves the answer to one request, made of what its change came to. Cheap to clone.
pub struct Receipt<T>(Option<Arc<Kept<T>>>);

struct Kept<T> {
    answer: Box<dyn Fn(&T) -> Answer + Send + Sync>,
    now: Timestamp,
}

impl<T> Receipt<T> {
    /// For a request that nobody will repeat.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Keeps what `answer` says of the change, as of `now`.
    pub fn new(now: Timestamp, answer: impl Fn(&T) -> Answer + Send + Sync + 'static) -> Self {
        let answer = Box::new(answer);
        Self(Some(Arc::new(Kept { answer, now })))
    }

    /// Writes the answer; the last thing in the transaction of the change.
    ///
    /// # Errors
    /// Whatever the store says; then the change is undone as well.
    pub(crate) async fn keep(&self, tx: &mut Tx, change: &T) -> Result<()> {
        if let Some(kept) = &self.0 {
            let answer = (kept.answer)(change);
            idempotency::put(tx, &answer, kept.now).await?;
        }
        Ok(())
    }
}

impl<T> Clone for Receipt<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Receipt<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receipt").field(&self.0.is_some()).finish()
    }
}
