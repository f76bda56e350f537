//! What is particular to SQLite.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use parallax_store::{Store, StoreError, agents};
use sqlx::Executor;

use crate::database::Database;
use crate::samples;

#[tokio::test]
async fn the_files_are_private_even_when_the_database_was_not() {
    let database = Database::sqlite();
    std::fs::write(database.path(), "").expect("writes");
    std::fs::set_permissions(database.path(), std::fs::Permissions::from_mode(0o644))
        .expect("it exists");
    let (_store, _) = database.open_with_tenant().await;
    let folder = database.path().parent().expect("it has one").to_owned();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).expect("lists") {
        let entry = entry.expect("lists");
        let mode = entry.metadata().expect("it exists").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
        names.push(entry.file_name().into_string().expect("ASCII"));
    }
    names.sort();
    assert_eq!(
        names,
        ["test.db", "test.db-shm", "test.db-wal", "test.db.lock"]
    );
}

#[tokio::test]
async fn a_database_that_another_process_locks_is_unavailable_until_it_is_released() {
    let mut database = Database::sqlite();
    database.config.busy_timeout = Duration::from_millis(100);
    let (store, tenant) = database.open_with_tenant().await;
    let mut other = database.sqlite_connection().await;
    other
        .execute("BEGIN EXCLUSIVE")
        .await
        .expect("nobody else writes now");

    let insert = |n| {
        let agent = samples::agent(tenant, n);
        store.write(tenant, agent, |tx, agent| {
            Box::pin(agents::insert(tx, agent))
        })
    };
    // All that wait hear of it together, not one timeout after another.
    for result in futures::future::join_all((1..=100).map(insert)).await {
        let error = result.expect_err("it is locked");
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        let told = "the database is unavailable: another process holds it locked";
        assert_eq!(error.to_string(), told);
    }
    drop(store.system_read().await.expect("readers are not kept out"));
    other.execute("ROLLBACK").await.expect("releases");
    insert(1).await.expect("it is free again");
}

#[tokio::test]
async fn opening_a_locked_database_fails_clearly() {
    let mut database = Database::sqlite();
    database.open().await.close().await;
    database.config.busy_timeout = Duration::from_millis(100);
    let mut other = database.sqlite_connection().await;
    other
        .execute("PRAGMA locking_mode = EXCLUSIVE")
        .await
        .expect("sets");
    other
        .execute("BEGIN EXCLUSIVE")
        .await
        .expect("nobody else writes now");
    let error = Store::open(&database.config)
        .await
        .expect_err("it is locked");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let database = Database::sqlite();
    let text = "a letter to a friend, ".repeat(100);
    std::fs::write(database.path(), &text).expect("writes");
    let error = Store::open(&database.config)
        .await
        .expect_err("it is a letter");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert_eq!(
        std::fs::read_to_string(database.path()).expect("reads"),
        text
    );
}

#[tokio::test]
async fn a_url_that_names_no_database_says_what_one_looks_like() {
    for url in [
        "",
        "mysql://x",
        "sqlite:",
        "sqlite::memory:",
        "/var/lib/x.db",
    ] {
        let config = parallax_store::Config::new(url);
        let error = Store::open(&config).await.expect_err("it is no database");
        assert!(
            matches!(error, StoreError::Setup { .. }),
            "{url}: {error:?}"
        );
        assert!(error.to_string().contains("`sqlite:"), "{url}: {error}");
    }
}
