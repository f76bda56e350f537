//! Which hosts are connected, what they last measured, and the log streams they feed.

mod connection;
mod log_streams;

use std::collections::HashMap;
use std::sync::Arc;

use parallax_core::id::{HostId, ReplicaId, TenantId};
use parallax_core::time::Timestamp;
use parking_lot::RwLock;
use tokio::time::Instant;

pub use connection::{Connection, Farewell};
pub use log_streams::{LogFrame, LogStreams, LogSubscription};

/// The connected hosts of all tenants.
#[derive(Debug, Default)]
pub struct Hosts {
    connected: RwLock<HashMap<HostId, Arc<Connection>>>,
    /// When the sessions of those that are not connected ended, since this server's start.
    left: RwLock<HashMap<HostId, Instant>>,
    usage: RwLock<HashMap<ReplicaId, Usage>>,
    pub log_streams: LogStreams,
}

/// What a new session of a host found.
#[derive(Debug)]
pub enum Joined {
    Alone,
    /// The session that it replaces.
    Instead(Arc<Connection>),
    /// A newer session is there.
    Overtaken,
}

/// What a host last measured of a replica. Never guessed: absent means not measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub tenant: TenantId,
    /// CPU time since the replica's process began.
    pub cpu_ns: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// CPU used between the last two measurements, in thousandths of a core.
    pub cpu_millis: Option<u64>,
    pub at: Timestamp,
}

impl Hosts {
    /// Adds a session of a host, unless one with a later epoch was faster.
    pub fn join(&self, connection: &Arc<Connection>) -> Joined {
        let mut connected = self.connected.write();
        let current = connected.get(&connection.host);
        if current.is_some_and(|c| c.epoch > connection.epoch) {
            return Joined::Overtaken;
        }
        self.left.write().remove(&connection.host);
        match connected.insert(connection.host, Arc::clone(connection)) {
            Some(old) => Joined::Instead(old),
            None => Joined::Alone,
        }
    }

    /// Removes a session, unless a newer one of the same host is there.
    pub fn leave(&self, connection: &Connection) -> bool {
        let mut connected = self.connected.write();
        let current = connected
            .get(&connection.host)
            .is_some_and(|c| c.epoch == connection.epoch);
        if current {
            connected.remove(&connection.host);
            self.left.write().insert(connection.host, Instant::now());
        }
        current
    }

    pub fn get(&self, host: HostId) -> Option<Arc<Connection>> {
        self.connected.read().get(&host).cloned()
    }

    pub fn is_connected(&self, host: HostId) -> bool {
        self.connected.read().contains_key(&host)
    }

    /// When the host's last session ended; `None` while it is connected, and when it has had none
    /// since this server's start.
    pub fn left_at(&self, host: HostId) -> Option<Instant> {
        self.left.read().get(&host).copied()
    }

    /// Has the host sent what it should run, soon.
    pub fn refresh(&self, host: HostId) {
        if let Some(connection) = self.get(host) {
            connection.refresh();
        }
    }

    /// Keeps a measurement.
    pub fn measured(&self, replica: ReplicaId, mut usage: Usage) {
        let mut all = self.usage.write();
        if let Some(before) = all.get(&replica) {
            // Two reports of one measurement have no time between them: then the last rate holds.
            let known = before.cpu_millis.filter(|_| usage.cpu_ns.is_some());
            usage.cpu_millis = rate(before, &usage).or(known);
        }
        all.insert(replica, usage);
    }

    pub fn usage(&self, replica: ReplicaId) -> Option<Usage> {
        self.usage.read().get(&replica).copied()
    }

    /// Tells a host, if it is connected, that it may remove what it keeps of these replicas.
    pub fn forget_replicas(&self, host: HostId, replicas: impl IntoIterator<Item = ReplicaId>) {
        if let Some(connection) = self.get(host) {
            connection.forget(replicas);
        }
    }

    pub fn forget_usage(&self, replica: ReplicaId) {
        self.usage.write().remove(&replica);
    }
}

fn rate(before: &Usage, now: &Usage) -> Option<u64> {
    let micros = u64::try_from(now.at.since(before.at).as_micros())
        .ok()
        .filter(|&us| us > 0)?;
    // A smaller total is a new process: all of it is fresh.
    let used = now.cpu_ns?.checked_sub(before.cpu_ns?).or(now.cpu_ns)?;
    Some(used / micros)
}
