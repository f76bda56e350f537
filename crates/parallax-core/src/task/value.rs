//! What tasks carry.

use super::MAX_INLINE_BYTES;
use crate::blob::BlobRef;
use crate::error::{Code, Error};
use crate::json::Json;

/// A value, inline or named.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// At most [`MAX_INLINE_BYTES`].
    Json(Json),
    Blob(BlobRef),
}

impl Default for Payload {
    fn default() -> Self {
        Self::Json(Json::NULL)
    }
}

impl Payload {
    #[must_use]
    pub const fn blob(&self) -> Option<&BlobRef> {
        match self {
            Self::Json(_) => None,
            Self::Blob(blob) => Some(blob),
        }
    }

    /// Whether it may travel as it is.
    ///
    /// # Errors
    /// `too_large` for an inline value beyond [`MAX_INLINE_BYTES`].
    pub fn check_size(&self) -> Result<(), Error> {
        match self {
            Self::Json(json) if json.len() > MAX_INLINE_BYTES => {
                let message = format!(
                    "a value of {} bytes must go through BlobService (inline: at most {MAX_INLINE_BYTES})",
                    json.len()
                );
                Err(Error::new(Code::TooLarge, message))
            }
            Self::Json(_) | Self::Blob(_) => Ok(()),
        }
    }
}

/// What travels along with a task. Empty where nobody said anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct TaskContext {
    /// W3C Trace Context and Baggage, verbatim.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub traceparent: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tracestate: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub baggage: String,
    /// Unique per delivery.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message_id: String,
    /// Groups the tasks of one conversation.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub context_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub session_id: String,
    /// The name of the credential that asked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub caller: String,
}
