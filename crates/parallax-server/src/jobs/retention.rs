//! Deleting what is too old to matter.

use std::sync::Arc;
use std::time::Duration;

use parallax_core::error::{Error, Result};
use parallax_store::{events, idempotency, instances, tasks, tenants};

use crate::app::App;

/// How often to look.
const EVERY: Duration = Duration::from_secs(600);
/// Rows deleted in one write, so that no other write waits long.
const ROWS: u32 = 1000;

pub(crate) async fn run(app: Arc<App>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = app.shutdown.cancelled() => return,
        }
        if let Err(error) = round(&app).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot delete old history"
            );
        }
    }
}

async fn round(app: &App) -> Result<()> {
    let now = app.clock.now();
    let age = i64::try_from(app.limits.history.as_micros()).unwrap_or(i64::MAX);
    let before =
        parallax_core::time::Timestamp::from_unix_micros(now.unix_micros().saturating_sub(age));
    let mut tx = app.store.system_read().await?;
    let listed = tenants::list(&mut tx, &parallax_store::Page::first(1000)).await?;
    drop(tx);
    for tenant in listed.items {
        let tenant_id = tenant.id;
        let pruned = app.store.write(tenant.id, (), move |tx, ()| {
            Box::pin(async move {
                events::prune(tx, tenant_id, before, ROWS).await?;
                instances::prune(tx, before).await?;
                Ok::<_, Error>(())
            })
        });
        pruned.await?;
    }
    let pruned = app.store.system_write((), move |tx, ()| {
        Box::pin(async move {
            tasks::prune(tx, before, ROWS).await?;
            idempotency::prune(tx, now).await?;
            Ok::<_, Error>(())
        })
    });
    pruned.await
}
