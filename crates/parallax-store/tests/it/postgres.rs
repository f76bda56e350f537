//! What is particular to PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parallax_core::id::TenantId;
use parallax_store::{Config, Store, StoreError, agents};
use parallax_testkit::postgres::{Missing, Server};

use crate::database::Database;
use crate::samples;

const PATIENCE: Duration = Duration::from_secs(60);

macro_rules! or_skip {
    ($started:expr) => {
        match $started {
            Ok(started) => started,
            Err(Missing) => parallax_testkit::skip!("{Missing}"),
        }
    };
}

/// Inserts an agent, counting how often the closure ran.
async fn insert(store: &Store, tenant: TenantId, runs: &Arc<AtomicU32>) -> Result<(), StoreError> {
    let runs = Arc::clone(runs);
    let agent = samples::agent(tenant, 1);
    store
        .write(tenant, agent, move |tx, agent| {
            runs.fetch_add(1, Ordering::Relaxed);
            Box::pin(agents::insert(tx, agent))
        })
        .await
}

#[tokio::test]
async fn the_database_itself_keeps_tenants_apart() {
    let database = or_skip!(Database::postgres());
    let (store, tenant) = database.open_with_tenant().await;
    insert(&store, tenant, &Arc::default()).await.expect("new");
    let other = samples::tenant(2).id;
    let count = "SELECT count(*) FROM agents";
    let seen = async |setting: &str| {
        let sql = format!("BEGIN; SET LOCAL ROLE plx_app; {setting}; {count}; COMMIT");
        database.sql(&sql).await
    };
    assert_eq!(
        seen("SELECT").await.trim(),
        "0",
        "without a tenant nothing shows"
    );
    assert_eq!(
        seen(&format!("SET LOCAL plx.tenant = '{other}'"))
            .await
            .trim(),
        "0"
    );
    assert_eq!(
        seen(&format!("SET LOCAL plx.tenant = '{tenant}'"))
            .await
            .trim(),
        "1"
    );
    let stolen = format!(
        "BEGIN; SET LOCAL ROLE plx_app; SET LOCAL plx.tenant = '{other}';
         UPDATE agents SET tenant_id = '{other}'; DELETE FROM agents; COMMIT"
    );
    database.sql(&stolen).await;
    assert_eq!(
        seen(&format!("SET LOCAL plx.tenant = '{tenant}'"))
            .await
            .trim(),
        "1"
    );
    let planted = format!(
        "DO $$ BEGIN
             SET LOCAL ROLE plx_app; SET LOCAL plx.tenant = '{other}';
             INSERT INTO sources VALUES ('{tenant}', 'd', 1, 1);
         EXCEPTION WHEN insufficient_privilege THEN RETURN;
         END $$"
    );
    database.sql(&planted).await;
    assert_eq!(
        database.sql("SELECT count(*) FROM sources").await.trim(),
        "0"
    );
}

#[tokio::test]
async fn a_role_that_bypasses_row_level_security_is_refused() {
    let server = or_skip!(Server::start());
    let database = server.create_database().expect("creates");
    let config = Config::new(&database.url);
    let store = Store::open(&config).await.expect("an empty database opens");
    store.close().await;
    for (role, power) in [("plx_app", "BYPASSRLS"), ("plx_system", "SUPERUSER")] {
        server
            .sql("postgres", &format!("ALTER ROLE {role} {power}"))
            .expect("alters");
        let error = Store::open(&config)
            .await
            .expect_err("the role may see everything");
        assert!(matches!(error, StoreError::Setup { .. }), "{error:?}");
        assert!(
            error
                .to_string()
                .contains(&format!("the role {role} bypasses")),
            "{error}"
        );
        server
            .sql("postgres", &format!("ALTER ROLE {role} NO{power}"))
            .expect("alters");
    }
    Store::open(&config)
        .await
        .expect("the roles are harmless again")
        .close()
        .await;
}

#[tokio::test]
async fn a_server_whose_lock_is_lost_is_told_and_writes_no_more() {
    let database = or_skip!(Database::postgres());
    let (store, tenant) = database.open_with_tenant().await;
    database
        .sql(
            "SELECT pg_terminate_backend(pid) FROM pg_locks
             WHERE locktype = 'advisory' AND objid = 1 AND database = (
                 SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .await;
    tokio::time::timeout(PATIENCE, store.lost())
        .await
        .expect("the loss is noticed");
    let error = insert(&store, tenant, &Arc::default())
        .await
        .expect_err("the lock is lost");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
}

/// Makes the first `failures` inserts of agents fail as a serialization failure does.
async fn disturb(database: &Database, failures: u32) {
    let sql = format!(
        "CREATE SEQUENCE disturbances; GRANT USAGE ON disturbances TO plx_app;
         CREATE FUNCTION disturb() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('disturbances') <= {failures} THEN
                 RAISE EXCEPTION 'disturbed' USING ERRCODE = '40001';
             END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER disturb BEFORE INSERT ON agents FOR EACH ROW EXECUTE FUNCTION disturb()"
    );
    database.sql(&sql).await;
}

#[tokio::test]
async fn a_write_that_others_disturbed_runs_again() {
    let database = or_skip!(Database::postgres());
    let (store, tenant) = database.open_with_tenant().await;
    disturb(&database, 3).await;
    let runs = Arc::default();
    insert(&store, tenant, &runs)
        .await
        .expect("it succeeds in the end");
    assert_eq!(runs.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn a_write_that_is_always_disturbed_gives_up() {
    let database = or_skip!(Database::postgres());
    let (store, tenant) = database.open_with_tenant().await;
    disturb(&database, 1000).await;
    let runs = Arc::default();
    let error = insert(&store, tenant, &runs)
        .await
        .expect_err("it never succeeds");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert_eq!(runs.load(Ordering::Relaxed), 8);
}
