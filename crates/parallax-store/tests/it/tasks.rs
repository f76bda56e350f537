//! Durable tasks.

use parallax_core::task::TaskState;
use parallax_store::{Page, StoreError, tasks};

use crate::database::on_both;
use crate::samples::{self, at};

on_both! {
    async fn a_task_is_read_as_it_was_written(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let mut large = samples::task(tenant, 2);
        large.input = samples::blob();
        for task in [samples::task(tenant, 1), large] {
            let given = task.clone();
            let existing = store
                .write(tenant, given, |tx, task| Box::pin(tasks::insert_or_get(tx, task)))
                .await
                .expect("writes");
            assert_eq!(existing, None);
            let mut tx = store.read(tenant).await.expect("a reader");
            assert_eq!(tasks::get(&mut tx, task.id).await.expect("reads"), Some(task));
        }
    }

    async fn a_repeated_request_gets_the_first_ones_task(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let first = samples::task(tenant, 1);
        let mut repeated = samples::task(tenant, 2);
        repeated.idempotency_key = first.idempotency_key.clone();
        let insert = |task| {
            store.write(tenant, task, |tx, task| Box::pin(tasks::insert_or_get(tx, task)))
        };
        assert_eq!(insert(first.clone()).await.expect("writes"), None);
        assert_eq!(insert(repeated).await.expect("writes"), Some(first));
        let mut keyless = [samples::task(tenant, 3), samples::task(tenant, 4)];
        for task in &mut keyless {
            task.idempotency_key = None;
            assert_eq!(insert(task.clone()).await.expect("writes"), None);
        }
    }

    async fn a_task_moves_only_from_the_state_that_was_read(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let mut task = samples::task(tenant, 1);
        let given = task.clone();
        store
            .write(tenant, given, |tx, task| Box::pin(tasks::insert_or_get(tx, task)))
            .await
            .expect("writes");
        task.state = TaskState::Dispatched;
        task.attempt = 1;
        task.not_before = None;
        let dispatch = || {
            store.write(tenant, task.clone(), |tx, task| {
                Box::pin(tasks::update(tx, task, (TaskState::Queued, 0)))
            })
        };
        let (one, other) = futures::future::join(dispatch(), dispatch()).await;
        assert_ne!(one.expect("writes"), other.expect("writes"), "exactly one dispatches it");
        let mut tx = store.system_read().await.expect("a reader");
        assert_eq!(tasks::leased_all(&mut tx).await.expect("reads"), [task]);
    }

    async fn queued_tasks_are_due_at_their_time_oldest_first(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let mut list: Vec<_> = (1..=4).map(|n| samples::task(tenant, n)).collect();
        list[0].not_before = Some(at(50));
        list[1].not_before = None;
        list[3].state = TaskState::Succeeded;
        store
            .write(tenant, list.clone(), |tx, list| Box::pin(async move {
                for task in list.iter().rev() {
                    tasks::insert_or_get(tx, task).await?;
                }
                Ok::<_, StoreError>(())
            }))
            .await
            .expect("writes");
        let mut tx = store.system_read().await.expect("a reader");
        let due = tasks::due_queued(&mut tx, at(10), None, 9).await.expect("reads");
        assert_eq!(due, list[1..3]);
        let after = tasks::due_queued(&mut tx, at(60), Some(list[0].id), 1).await.expect("reads");
        assert_eq!(after, list[1..2]);
        assert_eq!(tasks::count_open(&mut tx, tenant).await.expect("reads"), 3);
    }

    async fn tasks_are_listed_newest_first_by_agent_and_state(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let mut list: Vec<_> = (1..=5).map(|n| samples::task(tenant, n)).collect();
        list[1].agent_name = samples::name("other");
        list[2].state = TaskState::Failed;
        store
            .write(tenant, list.clone(), |tx, list| Box::pin(async move {
                for task in list {
                    tasks::insert_or_get(tx, task).await?;
                }
                Ok::<_, StoreError>(())
            }))
            .await
            .expect("writes");
        let mut tx = store.read(tenant).await.expect("a reader");
        let mut ids = async |agent: Option<&str>, state, page: Page| {
            let filter = tasks::Filter { agent: agent.map(samples::name), state };
            let listed = tasks::list(&mut tx, &filter, &page).await.expect("reads");
            let ids: Vec<_> = listed.items.iter().map(|task| task.id).collect();
            let index = |id: &parallax_core::id::TaskId| list.iter().position(|t| t.id == *id);
            (ids.iter().filter_map(index).collect::<Vec<_>>(), listed.more)
        };
        assert_eq!(ids(None, None, Page::first(3)).await, (vec![4, 3, 2], true));
        assert_eq!(ids(None, None, Page::after(list[2].id, 3)).await, (vec![1, 0], false));
        let queued = Some(TaskState::Queued);
        assert_eq!(ids(Some("scorer"), queued, Page::first(9)).await, (vec![4, 3, 0], false));
        assert_eq!(ids(Some("scorer"), None, Page::first(9)).await, (vec![4, 3, 2, 0], false));
        assert_eq!(ids(None, Some(TaskState::Failed), Page::first(9)).await, (vec![2], false));
    }

    async fn only_tasks_that_ended_long_ago_are_pruned(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let mut list: Vec<_> = (1..=4).map(|n| samples::task(tenant, n)).collect();
        for task in &mut list[..3] {
            task.state = TaskState::Succeeded;
        }
        list[2].updated_at = at(90);
        let pruned = store
            .system_write(list, |tx, list| Box::pin(async move {
                for task in list {
                    tasks::insert_or_get(tx, task).await?;
                }
                let one = tasks::prune(tx, at(50), 1).await?;
                Ok::<_, StoreError>((one, tasks::prune(tx, at(50), 9).await?))
            }))
            .await
            .expect("writes");
        assert_eq!(pruned, (1, 1));
    }
}
