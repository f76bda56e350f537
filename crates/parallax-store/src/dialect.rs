//! Where the two databases differ. Everything else has one text.

use parallax_core::id::TenantId;

use crate::error::StoreError;
use crate::tx::{Connection, Scope, Tx};
use crate::value::Value;

/// The channel on which PostgreSQL wakes the readers of events.
pub(crate) const EVENTS_CHANNEL: &str = "plx_events";

/// What an event is written with, but for its cursor.
macro_rules! event_columns {
    () => {
        "tenant_id, happened_at, subject, subject_id, kind, message, data_json"
    };
}
pub(crate) use event_columns;

/// Appends an event under the next cursor, which it returns; on PostgreSQL it also wakes the readers
/// of events once the transaction commits. The values are those of `event_columns!` in order. One
/// trip to the database: the trips are what a small write costs.
pub(crate) async fn append_event(tx: &mut Tx, values: &[Value; 7]) -> Result<u64, StoreError> {
    let sql = match &tx.connection {
        Connection::Sqlite(_) | Connection::SqliteWriter(_) => concat!(
            "UPDATE counters SET value = value + 1 WHERE name = 'event_cursor'; ",
            "INSERT INTO events (cursor, ",
            event_columns!(),
            ") SELECT value, $1, $2, $3, $4, $5, $6, $7 FROM counters \
             WHERE name = 'event_cursor' RETURNING cursor"
        ),
        // PostgreSQL folds the equal notices of a transaction into one.
        Connection::Postgres(_) => concat!(
            "INSERT INTO events (cursor, ",
            event_columns!(),
            ") VALUES (nextval('event_cursor'), $1, $2, $3, $4, $5, $6, $7) \
             RETURNING cursor, pg_notify('plx_events', '')::text AS sent"
        ),
    };
    tx.fetch_one(sql, values).await?.count("cursor")
}

/// The next epoch of an agent's instance: a number that only grows and is never given out twice.
pub(crate) async fn next_epoch(tx: &mut Tx) -> Result<u64, StoreError> {
    let sql = match &tx.connection {
        Connection::Sqlite(_) | Connection::SqliteWriter(_) => {
            "UPDATE counters SET value = value + 1 WHERE name = 'instance_epoch' RETURNING value"
        }
        Connection::Postgres(_) => "SELECT nextval('instance_epoch') AS value",
    };
    tx.fetch_one(sql, &[]).await?.count("value")
}

/// The class of this server's advisory locks on PostgreSQL: `PLX` in ASCII.
pub(crate) const LOCK_CLASS: i32 = 0x0050_4c58;
/// The server's own, held for life.
pub(crate) const SERVER_LOCK: i32 = 1;
/// Shared by the writes of tenants, exclusive to system writes.
const WRITE_LOCK: i32 = 2;
/// Of migrations.
pub(crate) const MIGRATION_LOCK: i32 = 3;
/// The class of the locks of tenants, by a hash of the tenant: two that collide wait for each other.
const TENANT_CLASS: i32 = LOCK_CLASS + 1;

/// What begins a write on PostgreSQL; one round trip. See the crate's documentation.
pub(crate) fn postgres_begin_write(scope: Scope) -> String {
    match scope {
        Scope::Tenant(tenant) => format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; {}; \
             SELECT pg_advisory_xact_lock_shared({LOCK_CLASS}, {WRITE_LOCK}); \
             SELECT pg_advisory_xact_lock({TENANT_CLASS}, hashtext('{tenant}'))",
            set_tenant(tenant)
        ),
        Scope::System => format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; \
             SELECT pg_advisory_xact_lock({LOCK_CLASS}, {WRITE_LOCK})"
        ),
    }
}

/// What begins a read on PostgreSQL.
pub(crate) fn postgres_begin_read(scope: Scope) -> String {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    match scope {
        Scope::Tenant(tenant) => format!("{begin}; {}", set_tenant(tenant)),
        Scope::System => begin.to_owned(),
    }
}

/// Until the end of the transaction. A typed id has no character that would need quoting.
fn set_tenant(tenant: TenantId) -> String {
    format!("SELECT set_config('plx.tenant', '{tenant}', true)")
}
