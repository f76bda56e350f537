//! Migrations, and that both databases have the same schema.

use std::collections::BTreeSet;

use parallax_store::{Constraint, Store, StoreError};

use crate::database::{Database, on_both};

/// Every column: table, place, name, type as SQLite calls it, whether it may be NULL.
const SQLITE_COLUMNS: &str = "SELECT m.name || ' ' || c.cid || ' ' || c.name || ' ' || c.type
       || CASE WHEN c.\"notnull\" = 1 THEN '' ELSE ' NULL' END
     FROM sqlite_master m, pragma_table_info(m.name) c
     WHERE m.type = 'table' AND m.name NOT IN ('counters', 'schema_version')
       AND m.name NOT LIKE 'sqlite_%'";
const POSTGRES_COLUMNS: &str =
    "SELECT table_name || ' ' || ordinal_position - 1 || ' ' || column_name || ' '
       || CASE data_type WHEN 'bigint' THEN 'INTEGER' WHEN 'text' THEN 'TEXT'
                         WHEN 'bytea' THEN 'BLOB' ELSE data_type END
       || CASE is_nullable WHEN 'NO' THEN '' ELSE ' NULL' END
     FROM information_schema.columns
     WHERE table_schema = 'public' AND table_name <> 'schema_version'";

/// Every named index: name, whether it is unique, its columns.
const SQLITE_INDEXES: &str = "SELECT l.name || ' ' || l.\"unique\" || ' ' || l.partial || ' '
       || (SELECT group_concat(i.name, ',') FROM pragma_index_info(l.name) i)
     FROM sqlite_master m, pragma_index_list(m.name) l
     WHERE m.type = 'table' AND l.origin = 'c'";
const POSTGRES_INDEXES: &str = "SELECT c.relname || ' ' || i.indisunique::int || ' '
       || (i.indpred IS NOT NULL)::int || ' '
       || (SELECT string_agg(a.attname, ',' ORDER BY array_position(i.indkey::int2[], a.attnum))
           FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[]))
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
       JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'public' AND NOT i.indisprimary";

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn both_databases_have_the_same_tables_and_indexes() {
    let postgres = match Database::postgres() {
        Ok(database) => database,
        Err(missing) => parallax_testkit::skip!("{missing}"),
    };
    let sqlite = Database::sqlite();
    postgres.open().await.close().await;
    sqlite.open().await.close().await;
    for (ours, theirs) in [
        (SQLITE_COLUMNS, POSTGRES_COLUMNS),
        (SQLITE_INDEXES, POSTGRES_INDEXES),
    ] {
        let (ours, theirs) = (
            lines(&sqlite.sql(ours).await),
            lines(&postgres.sql(theirs).await),
        );
        assert!(ours.len() > 10, "the query finds the schema: {ours:?}");
        let differing: Vec<_> = ours.symmetric_difference(&theirs).collect();
        assert!(differing.is_empty(), "{differing:#?}");
    }
}

#[tokio::test]
async fn every_unique_index_has_a_constraint_of_its_own() {
    let database = Database::sqlite();
    database.open().await.close().await;
    let sql = "SELECT l.name || '=' || (
             SELECT group_concat(m.name || '.' || i.name, ', ') FROM pragma_index_info(l.name) i
         ) FROM sqlite_master m, pragma_index_list(m.name) l
         WHERE m.type = 'table' AND l.origin = 'c' AND l.\"unique\" = 1";
    let named = Constraint::NAMED
        .iter()
        .map(|(_, index, columns)| format!("{index}={columns}"));
    assert_eq!(lines(&database.sql(sql).await), named.collect());
}

#[tokio::test]
async fn postgres_forces_row_level_security_on_every_table_of_tenants() {
    let database = match Database::postgres() {
        Ok(database) => database,
        Err(missing) => parallax_testkit::skip!("{missing}"),
    };
    database.open().await.close().await;
    let tables = lines(
        &database
            .sql(
                "SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity,
            (SELECT string_agg(p.polname || ':' || r.rolname, ',' ORDER BY p.polname)
             FROM pg_policy p JOIN pg_roles r ON r.oid = ANY (p.polroles)
             WHERE p.polrelid = c.oid),
            (SELECT a.attname FROM pg_index i JOIN pg_attribute a
               ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
             WHERE i.indrelid = c.oid AND i.indisprimary),
            has_table_privilege('plx_app', c.oid, 'SELECT')
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'public' AND c.relkind = 'r'",
            )
            .await,
    );
    let global = ["meta|f||name|f", "schema_version|f||version|t"];
    let (global_found, tenants): (Vec<_>, Vec<_>) = tables
        .iter()
        .partition(|line| global.contains(&line.as_str()));
    assert_eq!(global_found.len(), 2, "{tables:#?}");
    assert!(tenants.len() >= 12, "{tables:#?}");
    for table in tenants {
        let guarded = "|t|every_tenant:plx_system,own_tenant:plx_app|tenant_id|t";
        assert!(table.ends_with(guarded), "{table}");
    }
}

on_both! {
    async fn opening_again_changes_nothing(database: Database) {
        let (store, tenant) = database.open_with_tenant().await;
        store.close().await;
        let versions = "SELECT version, checksum FROM schema_version";
        let before = database.sql(versions).await;
        let store = database.open().await;
        let mut tx = store.read(tenant).await.expect("a reader");
        let found = parallax_store::tenants::get(&mut tx, tenant).await.expect("reads");
        assert!(found.is_some());
        assert_eq!(database.sql(versions).await, before);
    }

    async fn a_database_of_a_later_release_is_refused(database: Database) {
        database.open().await.close().await;
        database.sql("INSERT INTO schema_version (version, checksum) VALUES (1000, 'x')").await;
        let error = Store::open(&database.config).await.expect_err("it is too new");
        assert!(matches!(error, StoreError::NewerSchema { found: 1000, .. }), "{error:?}");
    }

    async fn a_migration_that_was_changed_afterwards_is_noticed(database: Database) {
        database.open().await.close().await;
        database.sql("UPDATE schema_version SET checksum = 'x'").await;
        let error = Store::open(&database.config).await.expect_err("it differs");
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    }
}
