//! What happened, in order: every transition that a user can see.

use std::fmt;
use std::str::FromStr;

use crate::id::TenantId;
use crate::time::Timestamp;

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

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Agent,
    Replica,
    Build,
    Task,
    Host,
    Key,
}

impl Subject {
    pub const ALL: [Self; 6] = [
        Self::Agent,
        Self::Replica,
        Self::Build,
        Self::Task,
        Self::Host,
        Self::Key,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Replica => "replica",
            Self::Build => "build",
            Self::Task => "task",
            Self::Host => "host",
            Self::Key => "key",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a subject of events that this version knows")]
pub struct UnknownSubject;

impl FromStr for Subject {
    type Err = UnknownSubject;

    fn from_str(text: &str) -> Result<Self, UnknownSubject> {
        Self::ALL
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or(UnknownSubject)
    }
}
