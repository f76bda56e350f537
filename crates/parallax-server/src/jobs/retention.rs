//! Deleting what is too old to matter.

use std::sync::Arc;
use std::time::Duration;

use parallax_core::error::{Error, Result};
use parallax_core::time::Timestamp;
use parallax_store::{BlobDigest, Page, events, idempotency, instances, sources, tasks, tenants};

use crate::app::App;

/// How often to look.
const EVERY: Duration = Duration::from_secs(600);
/// Rows deleted in one write, so that no other write waits long.
const ROWS: u32 = 1000;
/// Blobs deleted in one round, for the same reason.
const BLOBS: u32 = 200;
const TENANTS: u32 = 1000;

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
    let before = Timestamp::from_unix_micros(now.unix_micros().saturating_sub(age));
    let mut page = Page::first(TENANTS);
    loop {
        let mut tx = app.store.system_read().await?;
        let listed = tenants::list(&mut tx, &page).await?;
        drop(tx);
        for tenant in &listed.items {
            let id = tenant.id;
            let pruned = app.store.write(id, (), move |tx, ()| {
                Box::pin(async move { events::prune(tx, id, before, ROWS).await })
            });
            pruned.await?;
        }
        match listed.items.last() {
            Some(last) if listed.more => page = Page::after(last.id, TENANTS),
            _ => break,
        }
    }
    let pruned = app.store.system_write((), move |tx, ()| {
        Box::pin(async move {
            tasks::prune(tx, before, ROWS).await?;
            instances::prune(tx, before).await?;
            idempotency::prune(tx, now).await?;
            Ok::<_, Error>(())
        })
    });
    pruned.await?;
    collect(app, before).await
}

/// Deletes blobs that nothing needs and that were brought long ago. The row goes first: a crash in
/// between leaves a blob that nobody finds, and never a row without its blob.
async fn collect(app: &App, before: Timestamp) -> Result<()> {
    // Whoever brings a blob into use waits, so that it is not deleted under their hands.
    let _alone = app.collecting.write().await;
    let mut tx = app.store.system_read().await?;
    let old = sources::unreferenced(&mut tx, before, BLOBS).await?;
    drop(tx);
    for source in old {
        let given = source.digest.clone();
        let deleted = app.store.write(source.tenant, given, |tx, digest| {
            Box::pin(async move { sources::delete(tx, digest).await })
        });
        deleted.await?;
        let digest: BlobDigest = source.digest.parse().map_err(Error::internal)?;
        app.blobs.delete(source.tenant, &digest).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
