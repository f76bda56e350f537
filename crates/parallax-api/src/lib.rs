//! Public HTTP request and response types: what the server writes and clients read.
//!
//! One file per resource. Times are RFC 3339, ids are typed texts, optional fields are left out
//! when there is nothing to say. Requests are strict: an unknown field is refused.

pub mod agents;
pub mod deploy;
pub mod events;
pub mod hosts;
pub mod keys;
pub mod logs;
pub mod page;
pub mod plan;
pub mod problem;
pub mod registry;
mod schema;
pub mod tasks;
pub mod time;

pub use page::Page;
pub use problem::Problem;
pub use time::Time;
