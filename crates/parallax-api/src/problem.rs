//! Errors, as RFC 9457 has them.

use parallax_core::error::Code;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of [`Problem`].
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong (RFC 9457). Programs decide by `code`, people read `detail`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:parallax:error:CODE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words; always the same for one code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// A stable word; `docs/reference/errors.md` lists them all.
    #[schema(schema_with = crate::schema::code)]
    pub code: String,
    /// What happened, where, and what to do.
    pub detail: String,
    /// Names the request in the server's log.
    pub request_id: String,
    /// The task that this speaks of, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// The agent's own word for its failure, with `agent_failed` and `invalid_input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_code: Option<String>,
    /// Whether the same request may succeed later.
    #[serde(default)]
    pub retryable: bool,
}

impl Problem {
    /// The code, if this version knows it.
    #[must_use]
    pub fn known_code(&self) -> Option<Code> {
        self.code.parse().ok()
    }
}
