//! Tenants, keys, facts, kept answers.

use parallax_core::key::KeyState;
use parallax_store::idempotency::Answer;
use parallax_store::{Constraint, Page, StoreError, idempotency, keys, meta, tenants};

use crate::database::{add_tenant, on_both};
use crate::samples::{self, at};

on_both! {
    async fn a_key_is_found_by_its_id_across_tenants(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let key = samples::key(tenant, 1);
        let given = key.clone();
        store.write(tenant, given, |tx, key| Box::pin(keys::insert(tx, key))).await.expect("new");
        let mut tx = store.system_read().await.expect("a reader");
        let found = keys::get(&mut tx, key.id).await.expect("reads").expect("it exists");
        assert_eq!((found.state(at(5)), found == key), (KeyState::Active, true));
        drop(tx);
        let mut tx = store.read(tenant).await.expect("a reader");
        let error = keys::get(&mut tx, key.id).await.expect_err("not in a tenant's transaction");
        assert!(matches!(error, StoreError::ForeignTenant("key")), "{error:?}");
    }

    async fn a_revoked_key_gives_its_name_back(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let first = samples::key(tenant, 1);
        let mut second = samples::key(tenant, 2);
        second.name = first.name.clone();
        let insert = |key| store.write(tenant, key, |tx, key| Box::pin(keys::insert(tx, key)));
        let id = first.id;
        insert(first).await.expect("the name is free");
        let error = insert(second.clone()).await.expect_err("the name is taken");
        assert!(matches!(error, StoreError::Unique(Constraint::KeyName)), "{error:?}");
        store
            .write(tenant, id, |tx, id| Box::pin(keys::revoke(tx, *id, at(7))))
            .await
            .expect("it exists");
        insert(second.clone()).await.expect("the name is free again");
        let mut tx = store.read(tenant).await.expect("a reader");
        let listed = keys::list(&mut tx, &Page::first(9)).await.expect("reads");
        let revoked: Vec<_> = listed.items.iter().map(|key| key.revoked_at).collect();
        assert_eq!(revoked, [Some(at(7)), None]);
    }

    async fn a_single_use_key_is_used_up_once(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let mut token = samples::key(tenant, 1);
        token.single_use = true;
        let lasting = samples::key(tenant, 2);
        let (token_id, lasting_id) = (token.id, lasting.id);
        store
            .write(tenant, (token, lasting), |tx, (token, lasting)| Box::pin(async move {
                keys::insert(tx, token).await?;
                keys::insert(tx, lasting).await
            }))
            .await
            .expect("they are new");
        let consume = |id| {
            store.system_write((tenant, id), |tx, (tenant, id)| {
                Box::pin(keys::consume_single_use(tx, *tenant, *id, at(9)))
            })
        };
        let both = futures::future::join(consume(token_id), consume(token_id)).await;
        let mut both = [both.0.expect("writes"), both.1.expect("writes")];
        both.sort_unstable();
        assert_eq!(both, [false, true]);
        assert!(!consume(lasting_id).await.expect("writes"));
    }

    async fn tenants_are_listed_by_age(database: Database) {
        let store = database.open().await;
        let mut tx = store.system_read().await.expect("a reader");
        assert_eq!(tenants::first(&mut tx).await.expect("reads"), None);
        drop(tx);
        for n in [2, 1, 3] {
            add_tenant(&store, samples::tenant(n)).await;
        }
        let mut tx = store.system_read().await.expect("a reader");
        let first = tenants::first(&mut tx).await.expect("reads");
        assert_eq!(first, Some(samples::tenant(1)));
        let rest = tenants::list(&mut tx, &Page::after(samples::tenant(1).id, 1)).await;
        let rest = rest.expect("reads");
        assert_eq!((rest.items, rest.more), (vec![samples::tenant(2)], true));
        let named = tenants::by_name(&mut tx, &samples::name("tenant-3")).await.expect("reads");
        assert_eq!(named, Some(samples::tenant(3)));
    }

    async fn a_fact_is_replaced(database: Database) {
        let store = database.open().await;
        for value in ["one", "two"] {
            store
                .system_write(value, |tx, value| Box::pin(meta::set(tx, "fact", value)))
                .await
                .expect("writes");
        }
        let mut tx = store.system_read().await.expect("a reader");
        assert_eq!(meta::get(&mut tx, "fact").await.expect("reads").as_deref(), Some("two"));
    }

    async fn an_answer_is_kept_until_it_expires(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        let answer = Answer {
            key: "k".to_owned(),
            route: "POST /api/agents/deploy".to_owned(),
            request_hash: vec![1],
            status: 202,
            content_type: "application/json".to_owned(),
            body: b"{}".to_vec(),
            expires_at: at(10),
        };
        let put = |now| {
            store.write(tenant, (answer.clone(), now), |tx, (answer, now)| {
                Box::pin(idempotency::put(tx, answer, *now))
            })
        };
        put(at(1)).await.expect("the first");
        let error = put(at(2)).await.expect_err("the second");
        assert!(matches!(error, StoreError::Unique(Constraint::Id)), "{error:?}");
        let mut tx = store.read(tenant).await.expect("a reader");
        let kept = idempotency::get(&mut tx, "k", &answer.route, at(9)).await.expect("reads");
        assert_eq!(kept.as_ref(), Some(&answer));
        let expired = idempotency::get(&mut tx, "k", &answer.route, at(10)).await.expect("reads");
        assert_eq!(expired, None);
        drop(tx);
        put(at(10)).await.expect("the first has expired");
        let pruned = store.system_write((), |tx, ()| Box::pin(idempotency::prune(tx, at(11))));
        assert_eq!(pruned.await.expect("writes"), 1);
    }
}
