//! Tenants: whom everything belongs to.

use parallax_core::id::TenantId;
use parallax_core::name::Name;
use parallax_core::time::Timestamp;

use crate::error::StoreError;
use crate::page::{Listed, Page};
use crate::row::Row;
use crate::tx::Tx;
use crate::value::values;

/// A customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    pub id: TenantId,
    pub name: Name,
    pub created_at: Timestamp,
}

/// Adds a tenant.
///
/// # Errors
/// [`StoreError::Unique`] when the name or the id is taken.
pub async fn insert(tx: &mut Tx, tenant: &Tenant) -> Result<(), StoreError> {
    tx.check(tenant.id, "tenant")?;
    tx.execute(
        "INSERT INTO tenants (tenant_id, name, events_pruned_to, created_at)
         VALUES ($1, $2, 0, $3)",
        values![tenant.id, tenant.name, tenant.created_at],
    )
    .await?;
    Ok(())
}

/// The tenant with this id, if the transaction sees it.
pub async fn get(tx: &mut Tx, id: TenantId) -> Result<Option<Tenant>, StoreError> {
    tx.check(id, "tenant")?;
    let sql = "SELECT tenant_id, name, created_at FROM tenants WHERE tenant_id = $1";
    tx.find(sql, values![id], read).await
}

/// The tenant of this name. System only.
pub async fn by_name(tx: &mut Tx, name: &Name) -> Result<Option<Tenant>, StoreError> {
    tx.check_system("tenant")?;
    let sql = "SELECT tenant_id, name, created_at FROM tenants WHERE name = $1";
    tx.find(sql, values![name], read).await
}

/// The oldest tenant; `None` in a new database. System only.
pub async fn first(tx: &mut Tx) -> Result<Option<Tenant>, StoreError> {
    Ok(list(tx, &Page::first(1)).await?.items.pop())
}

/// Tenants by id, which is by age; the key of a page is the id. System only.
pub async fn list(tx: &mut Tx, page: &Page) -> Result<Listed<Tenant>, StoreError> {
    tx.check_system("tenant")?;
    let sql = "SELECT tenant_id, name, created_at FROM tenants
         WHERE tenant_id > $1 ORDER BY tenant_id LIMIT $2";
    Ok(page.cut(
        tx.list(sql, values![page.ascending(), page.fetch()], read)
            .await?,
    ))
}

fn read(row: &Row) -> Result<Tenant, StoreError> {
    Ok(Tenant {
        id: row.parse("tenant_id")?,
        name: row.parse("name")?,
        created_at: row.time("created_at")?,
    })
}
