//! Deadlines, unanswered cancels and leases that ran out.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::app::App;

/// How late a deadline may be noticed.
const TICK: Duration = Duration::from_millis(50);
/// Rounds between two that send the acknowledgements which found no task to travel with. An agent
/// keeps its results a little longer, and nobody waits for it to drop them.
const ACKNOWLEDGE_EVERY: u32 = 4;
/// Rounds between two looks for names without instances.
const PRUNE_EVERY: u32 = 200;

pub(crate) async fn run(app: Arc<App>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut round: u32 = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = app.shutdown.cancelled() => return,
        }
        let now = Instant::now();
        for (group, slot) in app.directory.sweep(now, app.limits.cancel_grace) {
            app.instance_lost(&group, slot, Some(now));
        }
        round = round.wrapping_add(1);
        if round.is_multiple_of(ACKNOWLEDGE_EVERY) {
            app.directory.acknowledge();
        }
        if round.is_multiple_of(PRUNE_EVERY) {
            app.directory.prune();
        }
    }
}
