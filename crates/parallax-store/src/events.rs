//! The log of everything that a user can see happen. Cursors grow in the order in which a
//! tenant's events become visible: see the crate's documentation.

use parallax_core::event::{Event, Subject};
use parallax_core::id::TenantId;
use parallax_core::time::Timestamp;

use crate::dialect::{self, event_columns};
use crate::error::StoreError;
use crate::row::Row;
use crate::tx::Tx;
use crate::value::values;

macro_rules! columns {
    () => {
        concat!("cursor, ", event_columns!())
    };
}

/// An event that has no cursor yet.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    pub at: Timestamp,
    pub subject: Subject,
    /// The subject's id, such as `agt_…`.
    pub subject_id: String,
    /// A stable word such as `phase_changed`.
    pub kind: String,
    /// For a person.
    pub message: String,
    /// JSON with the particulars, as the API shows them.
    pub data_json: String,
}

/// Appends an event of the transaction's tenant; returns its cursor.
pub async fn append(tx: &mut Tx, event: &NewEvent) -> Result<u64, StoreError> {
    let tenant = tx.tenant()?;
    let values = values![
        tenant,
        event.at,
        event.subject,
        event.subject_id,
        event.kind,
        event.message,
        event.data_json,
    ];
    let cursor = dialect::append_event(tx, values).await?;
    tx.appended = true;
    Ok(cursor)
}

/// Which events a reader wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Filter {
    #[default]
    All,
    Subject(Subject),
    /// Those of one object, by its id.
    SubjectId(String),
}

/// What a reader of events gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// In the order of their cursors.
    pub events: Vec<Event>,
    /// Set when events after the reader's cursor were pruned before it read them: the cursor up to
    /// which some are missing.
    pub skipped_to: Option<u64>,
}

/// The tenant's events after the cursor `after`, oldest first, at most `limit`.
pub async fn list_after(
    tx: &mut Tx,
    after: u64,
    filter: &Filter,
    limit: u32,
) -> Result<Batch, StoreError> {
    let tenant = tx.tenant()?;
    let pruned_to = pruned_to(tx).await?;
    let events = match filter {
        Filter::All => {
            let sql = concat!(
                "SELECT ",
                columns!(),
                " FROM events WHERE tenant_id = $1 AND cursor > $2 ORDER BY cursor LIMIT $3"
            );
            tx.list(sql, values![tenant, after, limit], read).await?
        }
        Filter::Subject(subject) => {
            let sql = concat!(
                "SELECT ",
                columns!(),
                " FROM events WHERE tenant_id = $1 AND cursor > $2 AND subject = $4
                 ORDER BY cursor LIMIT $3"
            );
            tx.list(sql, values![tenant, after, limit, subject], read)
                .await?
        }
        Filter::SubjectId(id) => {
            let sql = concat!(
                "SELECT ",
                columns!(),
                " FROM events WHERE tenant_id = $1 AND subject_id = $4 AND cursor > $2
                 ORDER BY cursor LIMIT $3"
            );
            tx.list(sql, values![tenant, after, limit, id], read)
                .await?
        }
    };
    Ok(Batch {
        events,
        skipped_to: Some(pruned_to).filter(|&pruned| pruned > after),
    })
}

/// The tenant's newest cursor, 0 without events: where a reader begins that wants none of the past.
pub async fn latest(tx: &mut Tx) -> Result<u64, StoreError> {
    let tenant = tx.tenant()?;
    let sql = "SELECT COALESCE(MAX(cursor), 0) AS cursor FROM events WHERE tenant_id = $1";
    let newest: u64 = tx.fetch_one(sql, values![tenant]).await?.count("cursor")?;
    Ok(newest.max(pruned_to(tx).await?))
}

/// Deletes a tenant's events from before `before`, the oldest `limit` of them so that no write
/// takes long, and remembers up to which cursor; returns how many. System or tenant.
pub async fn prune(
    tx: &mut Tx,
    tenant: TenantId,
    before: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    tx.check(tenant, "event")?;
    let sql = "SELECT COALESCE(MAX(cursor), 0) AS cursor FROM (
             SELECT cursor FROM events WHERE tenant_id = $1 AND happened_at < $2
             ORDER BY cursor LIMIT $3
         ) AS oldest";
    let cursor: u64 = tx
        .fetch_one(sql, values![tenant, before, limit])
        .await?
        .count("cursor")?;
    tx.execute(
        "UPDATE tenants SET events_pruned_to = $2
         WHERE tenant_id = $1 AND events_pruned_to < $2",
        values![tenant, cursor],
    )
    .await?;
    tx.execute(
        "DELETE FROM events WHERE tenant_id = $1 AND cursor <= $2",
        values![tenant, cursor],
    )
    .await
}

async fn pruned_to(tx: &mut Tx) -> Result<u64, StoreError> {
    let tenant = tx.tenant()?;
    let sql = "SELECT events_pruned_to FROM tenants WHERE tenant_id = $1";
    let pruned = tx
        .find(sql, values![tenant], |row| row.count("events_pruned_to"))
        .await?;
    Ok(pruned.unwrap_or(0))
}

fn read(row: &Row) -> Result<Event, StoreError> {
    Ok(Event {
        tenant: row.parse("tenant_id")?,
        cursor: row.count("cursor")?,
        at: row.time("happened_at")?,
        subject: row.parse("subject")?,
        subject_id: row.text("subject_id")?,
        kind: row.text("kind")?,
        message: row.text("message")?,
        data_json: row.text("data_json")?,
    })
}
