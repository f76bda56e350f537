//! Deleting what is too old to matter.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parallax_core::blob::BlobDigest;
use parallax_core::error::{Error, Result};
use parallax_core::id::TenantId;
use parallax_core::time::Timestamp;
use parallax_store::{Page, events, idempotency, instances, sources, tasks, tenants};

use crate::app::App;

/// How often to look.
const EVERY: Duration = Duration::from_secs(600);
/// Rows deleted in one write, so that no other write waits long.
const ROWS: u32 = 1000;
/// Blobs deleted in one round, for the same reason.
const BLOBS: u32 = 200;
const TENANTS: u32 = 1000;
/// Far longer than it takes from the end of an upload to the row that speaks of it.
const ORPHANED_FOR: Duration = Duration::from_secs(3600);

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
    collect(app, before).await?;
    collect_orphans(app, now).await
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

/// Deletes blobs that no row speaks of: of uploads whose deployment then failed, and of a
/// collection that was cut off. Their age spares those whose row is yet to come.
async fn collect_orphans(app: &App, now: Timestamp) -> Result<()> {
    let mut page = Page::first(TENANTS);
    let mut left = BLOBS;
    loop {
        let mut tx = app.store.system_read().await?;
        let listed = tenants::list(&mut tx, &page).await?;
        drop(tx);
        for tenant in &listed.items {
            for first in 0..=u8::MAX {
                left = collect_orphans_of(app, tenant.id, first, now, left).await?;
                if left == 0 || app.shutdown.is_cancelled() {
                    return Ok(());
                }
            }
        }
        match listed.items.last() {
            Some(last) if listed.more => page = Page::after(last.id, TENANTS),
            _ => return Ok(()),
        }
    }
}

/// Those whose digests begin with this byte, at most `left`; answers how many more there may be.
async fn collect_orphans_of(
    app: &App,
    tenant: TenantId,
    first: u8,
    now: Timestamp,
    mut left: u32,
) -> Result<u32> {
    let listed = app.blobs.list(tenant, first).await?;
    if listed.is_empty() || orphans(app, tenant, first, &listed).await?.is_empty() {
        return Ok(left);
    }
    // Looked at again while nobody can bring one into use.
    let _alone = app.collecting.write().await;
    for digest in orphans(app, tenant, first, &listed).await? {
        let put_at = app.blobs.put_at(tenant, digest).await?;
        let old = put_at.is_some_and(|at| age(at, now) >= ORPHANED_FOR);
        if old && left > 0 && app.blobs.delete(tenant, digest).await? {
            tracing::info!(%tenant, %digest, "a blob that nothing speaks of was deleted");
            left -= 1;
        }
    }
    Ok(left)
}

/// Those of `listed` that no row speaks of.
async fn orphans<'a>(
    app: &App,
    tenant: TenantId,
    first: u8,
    listed: &'a [BlobDigest],
) -> Result<Vec<&'a BlobDigest>> {
    // `g` comes after every hexadecimal digit.
    let range = (
        format!("sha256:{first:02x}"),
        format!("sha256:{first:02x}g"),
    );
    let mut tx = app.store.read(tenant).await?;
    let known = sources::known_between(&mut tx, (&range.0, &range.1)).await?;
    let unknown = |digest: &&BlobDigest| !known.contains(digest.as_str());
    Ok(listed.iter().filter(unknown).collect())
}

/// How old a file is that was written at `at`; nothing for one from the future.
fn age(at: SystemTime, now: Timestamp) -> Duration {
    let written = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let now = Duration::from_micros(u64::try_from(now.unix_micros()).unwrap_or(0));
    now.saturating_sub(written)
}

#[cfg(test)]
mod tests;
