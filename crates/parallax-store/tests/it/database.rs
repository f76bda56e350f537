//! A database for a test, of either kind.

use parallax_core::id::TenantId;
use parallax_store::{Config, Store, StoreError, tenants};
use tempfile::TempDir;

use crate::samples;

/// Makes a test for each kind of database from one async function of a [`Database`].
macro_rules! on_both {
    ($($(#[$attribute:meta])* async fn $name:ident($database:ident: Database) $body:block)*) => {$(
        $(#[$attribute])*
        mod $name {
            #[allow(unused_imports, reason = "not every test needs what its module imports")]
            use super::*;

            async fn test($database: crate::database::Database) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                test(crate::database::Database::sqlite()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                match crate::database::Database::postgres() {
                    Ok(database) => test(database).await,
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

    pub(crate) fn is_postgres(&self) -> bool {
        self.postgres.is_some()
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
