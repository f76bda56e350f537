//! A transaction on either database.

use parallax_core::id::TenantId;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Postgres, Sqlite, Transaction};

use crate::error::StoreError;
use crate::row::Row;
use crate::value::Value;

/// What a transaction may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Tenant(TenantId),
    /// Everything: sign-in and the server's own jobs.
    System,
}

pub(crate) enum Connection {
    Sqlite(Transaction<'static, Sqlite>),
    /// The only one that writes. Its transactions are begun and ended by plain statements: the
    /// driver's own count of them goes wrong when SQLite ends one by itself, as on a full disk.
    SqliteWriter(SqliteConnection),
    Postgres(Transaction<'static, Postgres>),
}

/// A transaction. Every statement has one text for both databases, with `$1`, `$2`, … for its
/// values. Dropping a transaction undoes it.
pub struct Tx {
    pub(crate) connection: Connection,
    pub(crate) scope: Scope,
    /// Whether events were appended, so that the readers of events are woken after the commit.
    pub(crate) appended: bool,
    /// The first statement that failed. PostgreSQL ends a transaction at that point, so that on
    /// SQLite too nothing can be committed after it, even if the closure went on.
    failed: Option<StoreError>,
}

macro_rules! bind {
    ($driver:ty, $sql:expr, $values:expr) => {{
        let mut query = sqlx::query::<$driver>($sql);
        for value in $values {
            query = match value {
                Value::Int(value) => query.bind(*value),
                Value::Text(value) => query.bind(value.as_deref()),
                Value::Bytes(value) => query.bind(value.as_deref()),
            };
        }
        query
    }};
}

macro_rules! on_driver {
    ($tx:expr, $sql:expr, $values:expr, $method:ident) => {
        match &mut $tx.connection {
            Connection::Sqlite(tx) => bind!(Sqlite, $sql, $values)
                .$method(&mut **tx)
                .await
                .map(Driver::Sqlite),
            Connection::SqliteWriter(connection) => bind!(Sqlite, $sql, $values)
                .$method(connection)
                .await
                .map(Driver::Sqlite),
            Connection::Postgres(tx) => bind!(Postgres, $sql, $values)
                .$method(&mut **tx)
                .await
                .map(Driver::Postgres),
        }
    };
}

enum Driver<S, P> {
    Sqlite(S),
    Postgres(P),
}

impl Tx {
    pub(crate) fn new(connection: Connection, scope: Scope) -> Self {
        Self {
            connection,
            scope,
            appended: false,
            failed: None,
        }
    }

    /// The tenant of this transaction.
    ///
    /// # Errors
    /// [`StoreError::ForeignTenant`] in a system transaction, which has none.
    pub fn tenant(&self) -> Result<TenantId, StoreError> {
        match self.scope {
            Scope::Tenant(tenant) => Ok(tenant),
            Scope::System => Err(StoreError::ForeignTenant("query")),
        }
    }

    /// Checks that this transaction may write a `what` of `tenant`.
    pub(crate) fn check(&self, tenant: TenantId, what: &'static str) -> Result<(), StoreError> {
        match self.scope {
            Scope::Tenant(own) if own != tenant => Err(StoreError::ForeignTenant(what)),
            Scope::Tenant(_) | Scope::System => Ok(()),
        }
    }

    /// Checks that this transaction sees all tenants; on SQLite nothing else would.
    pub(crate) fn check_system(&self, what: &'static str) -> Result<(), StoreError> {
        match self.scope {
            Scope::System => Ok(()),
            Scope::Tenant(_) => Err(StoreError::ForeignTenant(what)),
        }
    }

    fn note<T>(&mut self, answer: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        answer.map_err(|error| {
            let error = StoreError::from(error);
            self.failed.get_or_insert_with(|| error.clone());
            error
        })
    }

    /// Fails if a statement has failed, and forgets it: the next job of a batch begins clean.
    pub(crate) fn settle(&mut self) -> Result<(), StoreError> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Runs a statement; returns how many rows it changed.
    pub(crate) async fn execute(
        &mut self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<u64, StoreError> {
        let answer = on_driver!(self, sql, values, execute);
        Ok(match self.note(answer)? {
            Driver::Sqlite(done) => done.rows_affected(),
            Driver::Postgres(done) => done.rows_affected(),
        })
    }

    /// Runs a statement that must change a row; [`StoreError::NotFound`] when it changed none.
    pub(crate) async fn execute_one(
        &mut self,
        what: &'static str,
        sql: &'static str,
        values: &[Value],
    ) -> Result<(), StoreError> {
        match self.execute(sql, values).await? {
            0 => Err(StoreError::NotFound(what)),
            _ => Ok(()),
        }
    }

    pub(crate) async fn fetch_optional(
        &mut self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<Option<Row>, StoreError> {
        let answer = on_driver!(self, sql, values, fetch_optional);
        Ok(match self.note(answer)? {
            Driver::Sqlite(row) => row.map(Row::Sqlite),
            Driver::Postgres(row) => row.map(Row::Postgres),
        })
    }

    /// Runs a statement that always answers with one row.
    pub(crate) async fn fetch_one(
        &mut self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<Row, StoreError> {
        let answer = on_driver!(self, sql, values, fetch_one);
        Ok(match self.note(answer)? {
            Driver::Sqlite(row) => Row::Sqlite(row),
            Driver::Postgres(row) => Row::Postgres(row),
        })
    }

    pub(crate) async fn fetch_all(
        &mut self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<Vec<Row>, StoreError> {
        let answer = on_driver!(self, sql, values, fetch_all);
        Ok(match self.note(answer)? {
            Driver::Sqlite(rows) => rows.into_iter().map(Row::Sqlite).collect(),
            Driver::Postgres(rows) => rows.into_iter().map(Row::Postgres).collect(),
        })
    }

    /// The rows of an answer, read by `read`.
    pub(crate) async fn list<T>(
        &mut self,
        sql: &'static str,
        values: &[Value],
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.fetch_all(sql, values)
            .await?
            .iter()
            .map(read)
            .collect()
    }

    /// The row of an answer, read by `read`, if there is one.
    pub(crate) async fn find<T>(
        &mut self,
        sql: &'static str,
        values: &[Value],
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.fetch_optional(sql, values)
            .await?
            .as_ref()
            .map(read)
            .transpose()
    }

    /// Runs statements without values, as a migration has them.
    pub(crate) async fn script(&mut self, sql: &str) -> Result<(), StoreError> {
        let script = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match &mut self.connection {
            Connection::Sqlite(tx) => {
                script.execute(&mut **tx).await?;
            }
            Connection::SqliteWriter(connection) => {
                script.execute(connection).await?;
            }
            Connection::Postgres(tx) => {
                script.execute(&mut **tx).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        match self.connection {
            Connection::Sqlite(tx) => tx.commit().await?,
            Connection::SqliteWriter(_) => {
                self.execute("COMMIT", &[]).await?;
            }
            Connection::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}
