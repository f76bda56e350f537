//! What a write promises.

use parallax_core::id::TenantId;
use parallax_store::{Page, Store, StoreError, agents, events};

use crate::database::on_both;
use crate::samples;

async fn insert(store: &Store, tenant: TenantId, n: u8) -> Result<(), StoreError> {
    let agent = samples::agent(tenant, n);
    store
        .write(tenant, agent, |tx, agent| {
            Box::pin(agents::insert(tx, agent))
        })
        .await
}

async fn count(store: &Store, tenant: TenantId) -> usize {
    let mut tx = store.read(tenant).await.expect("a reader");
    agents::list(&mut tx, None, &Page::first(1000))
        .await
        .expect("reads")
        .items
        .len()
}

/// What a job of the tests does after it wrote.
#[derive(Debug, Clone, Copy)]
enum End {
    Well,
    Error,
    Panic,
    /// Breaks a rule of the database's and goes on as if nothing had happened.
    Heedless,
}

async fn job(store: Store, tenant: TenantId, n: u8, end: End) -> Result<(), StoreError> {
    store
        .write(tenant, (n, end), move |tx, (n, end)| {
            Box::pin(async move {
                let agent = samples::agent(tenant, *n);
                agents::insert(tx, &agent).await?;
                events::append(tx, &samples::event(*n, "agt_a")).await?;
                match end {
                    End::Well => Ok(()),
                    End::Error => Err(StoreError::NotFound("reason to go on")),
                    End::Panic => panic!("as the test wants"),
                    End::Heedless => {
                        let twice = agents::insert(tx, &agent).await;
                        assert!(matches!(twice, Err(StoreError::Unique(_))), "{twice:?}");
                        Ok(())
                    }
                }
            })
        })
        .await
}

on_both! {
    async fn a_write_that_fails_leaves_its_neighbours_alone(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let ends = [End::Well, End::Error, End::Panic, End::Heedless];
        let jobs = (0..80).map(|n| job(store.clone(), tenant, n, ends[usize::from(n) % 4]));
        let results = futures::future::join_all(jobs).await;
        for (n, result) in results.iter().enumerate() {
            let expected = match ends[n % 4] {
                End::Well => result.is_ok(),
                End::Error => matches!(result, Err(StoreError::NotFound("reason to go on"))),
                End::Panic => matches!(result, Err(StoreError::Panicked)),
                End::Heedless => matches!(result, Err(StoreError::Unique(_))),
            };
            assert!(expected, "job {n}: {result:?}");
        }
        assert_eq!(count(&store, tenant).await, 20);
        let mut tx = store.read(tenant).await.expect("a reader");
        let batch = events::list_after(&mut tx, 0, &events::Filter::All, 1000).await;
        assert_eq!(batch.expect("reads").events.len(), 20);
    }

    async fn a_write_is_seen_by_the_reads_that_begin_after_it(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let mut before = store.read(tenant).await.expect("a reader");
        let page = Page::first(9);
        let list = agents::list(&mut before, None, &page).await.expect("reads");
        assert_eq!(list.items.len(), 0);
        insert(&store, tenant, 1).await.expect("new");
        let list = agents::list(&mut before, None, &page).await.expect("reads");
        assert_eq!(list.items.len(), 0, "a read has one snapshot");
        assert_eq!(count(&store, tenant).await, 1);
    }

    async fn a_read_that_is_dropped_gives_its_connection_back(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        for _ in 0..4 * database.config.connections {
            count(&store, tenant).await;
        }
        let reads = (0..4 * database.config.connections).map(|_| count(&store, tenant));
        futures::future::join_all(reads).await;
    }

    async fn a_read_cannot_write(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let mut tx = store.read(tenant).await.expect("a reader");
        let error = agents::insert(&mut tx, &samples::agent(tenant, 1)).await;
        assert!(matches!(error, Err(StoreError::Other(_))), "{error:?}");
    }

    async fn a_closed_store_says_so(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        insert(&store, tenant, 1).await.expect("new");
        store.close().await;
        let error = insert(&store, tenant, 2).await.expect_err("closed");
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        assert_eq!(error.to_string(), "the database is unavailable: it was closed");
        assert!(matches!(store.check_writable().await, Err(StoreError::Unavailable { .. })));
    }
}
