//! What happened, in order: every transition that a user can see.

use crate::id::TenantId;
use crate::time::Timestamp;
use crate::word::words;

/// One entry of a tenant's log. The cursor only grows, and gaps mean nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub tenant: TenantId,
    pub cursor: u64,
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

words! {
    /// What an event is about.
    pub enum Subject("a subject of events") {
        Agent = "agent",
        Replica = "replica",
        Build = "build",
        Task = "task",
        Host = "host",
        Key = "key",
    }
}
