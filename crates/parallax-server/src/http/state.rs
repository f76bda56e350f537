//! What the handlers share.

use std::collections::VecDeque;
use std::sync::Arc;

use parallax_core::blob::BlobRef;
use parallax_core::error::{Code, Error, Result};
use parallax_core::id::{TaskId, TenantId};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::idempotency::Turns;
use super::metrics::Metrics;
use crate::app::App;

/// Uploads at once: each holds a file and hashes at disk speed, more only slow each other down.
const UPLOADS_AT_ONCE: usize = 16;
/// Open streams of logs, events and the like; each holds a few kilobytes and a timer.
const STREAMS_AT_ONCE: usize = 2048;
/// Answers of attached calls whose blobs can still be asked for: such a call has no row.
const ANSWERS_KEPT: usize = 4096;

/// The handlers' state. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HandlerState(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) app: Arc<App>,
    pub(crate) metrics: Metrics,
    pub(crate) turns: Turns,
    pub(crate) recent: RecentBlobs,
    uploads: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl HandlerState {
    pub(crate) fn new(app: &Arc<App>) -> Self {
        Self(Arc::new(Inner {
            app: Arc::clone(app),
            metrics: Metrics::default(),
            turns: Turns::default(),
            recent: RecentBlobs::default(),
            uploads: Arc::new(Semaphore::new(UPLOADS_AT_ONCE)),
            streams: Arc::new(Semaphore::new(STREAMS_AT_ONCE)),
        }))
    }

    /// A place for an upload, held until the permit is dropped.
    pub(crate) fn upload_place(&self) -> Result<OwnedSemaphorePermit> {
        place(&self.0.uploads, "uploads")
    }

    /// A place for a stream.
    pub(crate) fn stream_place(&self) -> Result<OwnedSemaphorePermit> {
        place(&self.0.streams, "streams")
    }
}

impl std::ops::Deref for HandlerState {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

fn place(places: &Arc<Semaphore>, what: &str) -> Result<OwnedSemaphorePermit> {
    Arc::clone(places).try_acquire_owned().map_err(|_| {
        let message = format!("too many {what} are open on this server; try again in a moment");
        Error::new(Code::ResourceExhausted, message)
    })
}

/// Which blobs the latest attached calls were answered with, and for whom.
#[derive(Default)]
pub(crate) struct RecentBlobs(Mutex<VecDeque<(TenantId, TaskId, Vec<BlobRef>)>>);

impl RecentBlobs {
    pub(crate) fn remember(&self, tenant: TenantId, task: TaskId, blobs: Vec<BlobRef>) {
        if blobs.is_empty() {
            return;
        }
        let mut kept = self.0.lock();
        if kept.len() >= ANSWERS_KEPT {
            kept.pop_front();
        }
        kept.push_back((tenant, task, blobs));
    }

    pub(crate) fn of(&self, tenant: TenantId, task: TaskId) -> Option<Vec<BlobRef>> {
        let kept = self.0.lock();
        let found = kept
            .iter()
            .rev()
            .find(|(t, id, _)| *t == tenant && *id == task);
        found.map(|(_, _, blobs)| blobs.clone())
    }
}
