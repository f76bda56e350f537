//! One session of a host.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use parallax_core::id::{HostId, ReplicaId, TenantId};
use parallax_proto::v1;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Why the server ends a host's session.
pub use parallax_proto::v1::host_goaway::Reason as Farewell;

/// The way down to a connected host.
#[derive(Debug)]
pub struct Connection {
    pub tenant: TenantId,
    pub host: HostId,
    /// Frames of older epochs are refused.
    pub epoch: u64,
    pub closed: CancellationToken,
    frames: mpsc::Sender<Result<v1::HostDown, Status>>,
    changed: Notify,
    forgotten: Mutex<BTreeSet<ReplicaId>>,
    generation: AtomicU64,
}

impl Connection {
    pub fn new(
        tenant: TenantId,
        host: HostId,
        epoch: u64,
        frames: mpsc::Sender<Result<v1::HostDown, Status>>,
    ) -> Self {
        Self {
            tenant,
            host,
            epoch,
            closed: CancellationToken::new(),
            frames,
            changed: Notify::new(),
            forgotten: Mutex::default(),
            generation: AtomicU64::new(0),
        }
    }

    /// Queues a frame; `false` when the host does not keep up, whose session then ends.
    pub fn send(&self, frame: v1::host_down::Frame) -> bool {
        let sent = self
            .frames
            .try_send(Ok(v1::HostDown { frame: Some(frame) }))
            .is_ok();
        if !sent {
            self.closed.cancel();
        }
        sent
    }

    /// Says goodbye and ends the session.
    pub fn go_away(&self, reason: Farewell, message: &str) {
        self.send(v1::host_down::Frame::Goaway(v1::HostGoaway {
            why: reason.into(),
            message: message.to_owned(),
            ..v1::HostGoaway::default()
        }));
        self.closed.cancel();
    }

    /// Asks the session to send the desired state again. Coalesces.
    pub fn refresh(&self) {
        self.changed.notify_one();
    }

    /// Returns when [`Self::refresh`] was called.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Has the host told that the records and files of these replicas may go. What a session ends
    /// without telling, the next one finds in what its host reports.
    pub fn forget(&self, replicas: impl IntoIterator<Item = ReplicaId>) {
        let mut forgotten = self.forgotten.lock();
        let before = forgotten.len();
        forgotten.extend(replicas);
        if forgotten.len() > before {
            self.changed.notify_one();
        }
    }

    /// What [`Self::forget`] has gathered.
    pub fn take_forgotten(&self) -> BTreeSet<ReplicaId> {
        std::mem::take(&mut *self.forgotten.lock())
    }

    /// The number of the next desired state.
    pub fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::Relaxed) + 1
    }
}
