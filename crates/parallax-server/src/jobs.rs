//! What the server does by itself: each job is idempotent, periodic *and* signalled, and never
//! retries inside: the next round does.

pub(crate) mod durable;
pub(crate) mod keys;
pub(crate) mod leases;
pub(crate) mod reconcile;
pub(crate) mod retention;

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::app::App;
use crate::dispatch::DurableEvent;

/// Starts every job; they end when the server shuts down.
pub(crate) fn start(app: &Arc<App>, durable_events: mpsc::UnboundedReceiver<DurableEvent>) {
    app.tasks.spawn(leases::run(Arc::clone(app)));
    app.tasks.spawn(durable::dispatch(Arc::clone(app)));
    app.tasks
        .spawn(durable::commit(Arc::clone(app), durable_events));
    app.tasks.spawn(reconcile::run(Arc::clone(app)));
    app.tasks.spawn(retention::run(Arc::clone(app)));
    app.tasks.spawn(keys::run(Arc::clone(app)));
}
