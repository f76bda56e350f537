//! A database for a test, of either kind.

use std::path::PathBuf;

use parallax_core::id::TenantId;
use parallax_store::{Config, Store, StoreError, tenants};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Row};
use tempfile::TempDir;

use crate::samples;

/// Makes a test for each kind of database from one async function of a [`Database`].
macro_rules! on_both {
    ($(async fn $name:ident($database:ident: Database) $body:block)*) => {$(
        async fn $name($database: crate::database::Database) $body

        mod $name {
            use crate::database::Database;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                super::$name(Database::sqlite()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                match Database::postgres() {
                    Ok(database) => super::$name(database).await,
                    Err(missing) => parallax_testkit::skip!("{missing}"),
                }
            }
        }
    )*};
}
pub(crate) use on_both;

/// An empty database of the test's own.
pub(crate) struct Database {
    pub(crate) config: Config,
    pub(crate) postgres: Option<parallax_testkit::postgres::Database>,
    /// Deleted with it.
    pub(crate) folder: Option<TempDir>,
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = Config::new(format!("sqlite:{}/test.db", folder.path().display()));
        Self {
            config,
            postgres: None,
            folder: Some(folder),
        }
    }

    pub(crate) fn postgres() -> Result<Self, parallax_testkit::postgres::Missing> {
        let database = parallax_testkit::postgres::shared()?
            .create_database()
            .expect("the superuser may create databases");
        let config = Config::new(&database.url);
        Ok(Self {
            config,
            postgres: Some(database),
            folder: None,
        })
    }

    /// Runs SQL beside the store; returns what it answers, a line for each row and `|` between
    /// its columns, NULL as nothing. PostgreSQL: as the superuser.
    pub(crate) async fn sql(&self, sql: &str) -> String {
        if let Some(database) = &self.postgres {
            let server = parallax_testkit::postgres::shared().expect("it has the database");
            return server
                .sql(&database.name, sql)
                .expect("the statement is right");
        }
        let mut connection = self.sqlite_connection().await;
        let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut connection)
            .await
            .expect("the statement is right");
        connection.close().await.expect("it closes");
        let line = |row: &sqlx::sqlite::SqliteRow| {
            let columns = (0..row.len()).map(|i| {
                let text = row.try_get_unchecked::<Option<String>, _>(i).expect("text");
                text.unwrap_or_default()
            });
            columns.collect::<Vec<_>>().join("|") + "\n"
        };
        rows.iter().map(line).collect()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder
            .as_ref()
            .expect("SQLite has a folder")
            .path()
            .join("test.db")
    }

    pub(crate) async fn sqlite_connection(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.path());
        options.connect().await.expect("the file is a database")
    }

    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.config)
            .await
            .expect("an empty database opens")
    }

    /// Opens it with a tenant in it.
    pub(crate) async fn open_with_tenant(&self) -> (Store, TenantId) {
        let store = self.open().await;
        let tenant = samples::tenant(1);
        add_tenant(&store, tenant.clone()).await;
        (store, tenant.id)
    }
}

pub(crate) async fn add_tenant(store: &Store, tenant: tenants::Tenant) {
    let added = store.system_write(tenant, |tx, tenant| Box::pin(tenants::insert(tx, tenant)));
    let added: Result<(), StoreError> = added.await;
    added.expect("the tenant is new");
}
