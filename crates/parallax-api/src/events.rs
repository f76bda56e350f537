//! What happened, in order.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;

/// What a stream of events carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventEntry {
    Event(EventView),
    /// Events up to this cursor were deleted before they could be read.
    Skipped {
        to: u64,
    },
    /// Why the server ended the stream.
    Problem {
        problem: Box<crate::Problem>,
    },
}

/// A transition that a user can see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Only grows; gaps mean nothing. Go on after it with `Last-Event-ID` or `?after=`.
    pub cursor: u64,
    pub at: Time,
    #[schema(schema_with = crate::schema::subject)]
    pub subject: String,
    pub subject_id: String,
    /// A stable word such as `phase_changed`.
    pub kind: String,
    pub message: String,
    /// The particulars of this kind.
    #[schema(value_type = Object)]
    pub data: serde_json::Value,
}
