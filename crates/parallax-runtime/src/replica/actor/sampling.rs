//! What a process uses, and the end of one that uses more memory than it may where no cgroup would
//! stop it.

use std::time::Duration;

use tokio::time::Instant;

use super::Actor;
use crate::error::{blocking, chain};
use crate::replica::account::Excess;
use crate::usage;

/// How often memory is looked at where nothing else limits it: a process that grows by a gigabyte a
/// second overdraws by that much, and a look costs some file reads.
const MEMORY_CHECK: Duration = Duration::from_secs(1);

impl Actor {
    pub(super) async fn sample(&mut self) {
        let limit = self.watched_limit();
        let interval = self.context.usage_interval;
        self.usage_due = Instant::now() + limit.map_or(interval, |_| interval.min(MEMORY_CHECK));
        let Some(running) = &self.running else {
            return;
        };
        let (cgroup, state) = (self.cgroup.clone(), running.state.clone());
        let looked = blocking(move || {
            let usage = usage::sample(cgroup.as_ref(), &state);
            let excess = limit.and_then(|limit| usage::excess(&usage, limit, &state));
            Ok((usage, excess))
        });
        // The host is shutting down: the next one looks again.
        let Ok((usage, excess)) = looked.await else {
            return;
        };
        self.usage = usage;
        self.end_silent().await;
        if let Some(used) = excess {
            let limit = limit.unwrap_or(u64::MAX);
            self.end_overdrawn(Excess { used, limit }).await;
        }
    }

    /// The limit on memory that only the host can see to.
    fn watched_limit(&self) -> Option<u64> {
        let limit = self.orders.assignment.spec.resources.memory?;
        (!self.context.limiter.enforced().memory).then(|| limit.get())
    }

    async fn end_overdrawn(&mut self, excess: Excess) {
        let Some(running) = &mut self.running else {
            return;
        };
        tracing::warn!(replica = %self.id, used = excess.used, limit = excess.limit, "killed for its memory");
        running.excess = Some(excess);
        if let Err(error) = running.link.kill().await {
            // It has ended by itself, or the next look tries again.
            tracing::debug!(replica = %self.id, error = chain(&error), "shim not reached");
        }
    }
}
