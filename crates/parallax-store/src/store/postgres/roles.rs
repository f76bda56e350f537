//! The roles that the server's statements run under.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::error::StoreError;

/// Sees the tenant that its transaction names.
pub(super) const APP: &str = "plx_app";
/// Sees every tenant, by a policy of its own.
pub(super) const SYSTEM: &str = "plx_system";

/// Another server may be creating the same roles in another database of the same cluster.
const ATTEMPTS: u32 = 10;

/// Makes both roles where they are missing, and the login role a member of them.
pub(super) async fn ensure(connection: &mut PgConnection) -> Result<(), StoreError> {
    for role in [APP, SYSTEM] {
        for attempt in 1.. {
            match ensure_one(connection, role).await {
                Ok(()) => break,
                Err(error) if attempt < ATTEMPTS && raced(&error) => {}
                Err(error) => return Err(explain(error)),
            }
        }
    }
    Ok(())
}

async fn ensure_one(connection: &mut PgConnection, role: &str) -> Result<(), sqlx::Error> {
    let exists = sqlx::query("SELECT 1 FROM pg_roles WHERE rolname = $1").bind(role);
    if exists.fetch_optional(&mut *connection).await?.is_none() {
        let create = AssertSqlSafe(format!("CREATE ROLE {role} NOLOGIN"));
        sqlx::raw_sql(create).execute(&mut *connection).await?;
    }
    let member = sqlx::query("SELECT pg_has_role(current_user, $1, 'MEMBER') AS member").bind(role);
    if !member
        .fetch_one(&mut *connection)
        .await?
        .try_get::<bool, _>("member")?
    {
        let grant = AssertSqlSafe(format!("GRANT {role} TO CURRENT_USER"));
        sqlx::raw_sql(grant).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Whether someone else did the same at the same time: duplicate objects, unique violations of
/// the catalogue, "tuple concurrently updated".
fn raced(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("42710" | "23505" | "XX000"))
}

fn explain(error: sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(|error| error.code());
    if code.as_deref() == Some("42501") {
        let what = format!(
            "this login may not create roles; let an administrator run \
             `CREATE ROLE {APP} NOLOGIN; CREATE ROLE {SYSTEM} NOLOGIN; \
             GRANT {APP}, {SYSTEM} TO` and the name of the login"
        );
        return StoreError::setup_from(what, error);
    }
    error.into()
}

/// Makes everything on this connection run as `role`, after a look at what the role may do: one
/// that bypasses row-level security would show every tenant's rows to every other.
pub(super) async fn assume(
    connection: &mut PgConnection,
    role: &'static str,
) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(format!("RESET ROLE; SET ROLE {role}")))
        .execute(&mut *connection)
        .await?;
    let row = sqlx::query(
        "SELECT rolsuper OR rolbypassrls AS free FROM pg_roles WHERE rolname = current_user",
    )
    .fetch_one(connection)
    .await?;
    if row.try_get::<bool, _>("free")? {
        let message = format!(
            "the role {role} bypasses row-level security; run `ALTER ROLE {role} NOSUPERUSER NOBYPASSRLS`"
        );
        return Err(sqlx::Error::Configuration(message.into()));
    }
    Ok(())
}
