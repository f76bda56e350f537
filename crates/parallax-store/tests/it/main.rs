//! The store on real databases: the same tests on SQLite and on PostgreSQL, and what is particular
//! to each.

mod agents;
mod crash;
mod database;
mod events;
mod isolation;
mod keys;
mod lock;
mod postgres;
mod samples;
mod schema;
mod sqlite;
mod tasks;
mod writes;
