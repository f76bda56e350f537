//! Migrations and all SQL: the only user of sqlx.
