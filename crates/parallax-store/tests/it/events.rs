//! Events and their cursors.

use std::time::Duration;

use parallax_core::event::Subject;
use parallax_store::events::Filter;
use parallax_store::{StoreError, events};

use crate::database::{add_tenant, on_both};
use crate::samples::{self, at};

/// More than any of this takes; a test fails by it, and never passes by it.
const PATIENCE: Duration = Duration::from_secs(60);

on_both! {
    async fn events_are_read_after_a_cursor(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let cursors = store
            .write(tenant, (), |tx, ()| Box::pin(async move {
                let mut cursors = Vec::new();
                for (n, id) in (1..).zip(["agt_a", "agt_b", "agt_a"]) {
                    let mut event = samples::event(n, id);
                    if n == 2 {
                        event.subject = Subject::Task;
                    }
                    cursors.push(events::append(tx, &event).await?);
                }
                Ok::<_, StoreError>(cursors)
            }))
            .await
            .expect("writes");
        assert!(cursors.is_sorted_by(|a, b| a < b), "{cursors:?}");
        let mut tx = store.read(tenant).await.expect("a reader");
        let mut read = async |after, filter: Filter| {
            let batch = events::list_after(&mut tx, after, &filter, 9).await.expect("reads");
            assert_eq!(batch.skipped_to, None);
            batch.events.iter().map(|event| event.cursor).collect::<Vec<_>>()
        };
        assert_eq!(read(0, Filter::All).await, cursors);
        assert_eq!(read(cursors[0], Filter::All).await, cursors[1..]);
        assert_eq!(read(0, Filter::Subject(Subject::Task)).await, cursors[1..2]);
        let of_a = read(0, Filter::SubjectId("agt_a".to_owned())).await;
        assert_eq!(of_a, [cursors[0], cursors[2]]);
        assert_eq!(events::latest(&mut tx).await.expect("reads"), cursors[2]);
        let event = events::list_after(&mut tx, 0, &Filter::All, 1).await.expect("reads");
        let (written, event) = (samples::event(1, "agt_a"), &event.events[0]);
        assert_eq!(
            (event.at, event.subject, &event.kind, &event.message, &event.data_json),
            (written.at, written.subject, &written.kind, &written.message, &written.data_json)
        );
    }

    async fn a_reader_hears_that_events_were_pruned_before_it_read_them(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let (pruned, cursors) = store
            .write(tenant, (), move |tx, ()| Box::pin(async move {
                let mut cursors = Vec::new();
                for n in 1..=4 {
                    cursors.push(events::append(tx, &samples::event(n, "agt_a")).await?);
                }
                let pruned = events::prune(tx, tenant, at(3), 100).await?;
                let again = events::prune(tx, tenant, at(3), 100).await?;
                Ok::<_, StoreError>(((pruned, again), cursors))
            }))
            .await
            .expect("writes");
        assert_eq!(pruned, (2, 0));
        let mut tx = store.read(tenant).await.expect("a reader");
        let late = events::list_after(&mut tx, cursors[0], &Filter::All, 9).await.expect("reads");
        assert_eq!((late.events.len(), late.skipped_to), (2, Some(cursors[1])));
        let on_time = events::list_after(&mut tx, cursors[1], &Filter::All, 9).await;
        assert_eq!(on_time.expect("reads").skipped_to, None);
    }

    async fn no_reader_misses_an_event_of_concurrent_writers(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        const WRITERS: u8 = 8;
        const EACH: u8 = 25;
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let store = store.clone();
            writers.spawn(async move {
                for n in 0..EACH {
                    let id = format!("{writer}-{n}");
                    store
                        .write(tenant, id, |tx, id| Box::pin(async move {
                            events::append(tx, &samples::event(1, id)).await
                        }))
                        .await
                        .expect("writes");
                }
            });
        }
        let reader = async {
            let mut changed = store.events_changed();
            let (mut cursor, mut seen) = (0, Vec::new());
            while seen.len() < usize::from(WRITERS) * usize::from(EACH) {
                let mut tx = store.read(tenant).await.expect("a reader");
                let batch = events::list_after(&mut tx, cursor, &Filter::All, 7).await;
                drop(tx);
                let batch = batch.expect("reads").events;
                match batch.last() {
                    Some(last) => cursor = last.cursor,
                    None => changed.changed().await.expect("the store is open"),
                }
                seen.extend(batch.into_iter().map(|event| event.subject_id));
            }
            seen
        };
        let mut seen = tokio::time::timeout(PATIENCE, reader).await.expect("no event is missed");
        writers.join_all().await;
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), usize::from(WRITERS) * usize::from(EACH));
    }

    async fn an_event_of_a_failed_write_is_never_seen(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let failed = store
            .write(tenant, (), |tx, ()| Box::pin(async move {
                events::append(tx, &samples::event(1, "agt_a")).await?;
                Err::<(), _>(StoreError::NotFound("agent"))
            }))
            .await;
        assert!(matches!(failed, Err(StoreError::NotFound("agent"))), "{failed:?}");
        let mut tx = store.read(tenant).await.expect("a reader");
        assert_eq!(events::latest(&mut tx).await.expect("reads"), 0);
    }

    async fn another_tenants_events_do_not_show(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let other = samples::tenant(2);
        add_tenant(&store, other.clone()).await;
        store
            .write(other.id, (), |tx, ()| Box::pin(async move {
                events::append(tx, &samples::event(1, "agt_a")).await
            }))
            .await
            .expect("writes");
        let mut tx = store.read(tenant).await.expect("a reader");
        let batch = events::list_after(&mut tx, 0, &Filter::All, 9).await.expect("reads");
        assert_eq!((batch.events, batch.skipped_to), (vec![], None));
    }
}
