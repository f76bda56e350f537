//! How tasks end, and what is heard of them before. Stored as JSON in a task's row: names of fields
//! are part of the database.

use bytes::Bytes;

use super::Payload;
use crate::blob::BlobRef;
use crate::error::{Code, Error};
use crate::json::Json;

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Success(Success),
    Problem(Problem),
}

/// An agent's answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Success {
    pub value: Payload,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

impl Success {
    /// An answer that is nothing but a value.
    #[must_use]
    pub const fn of(value: Payload) -> Self {
        Self {
            value,
            confidence: None,
            evidence: Vec::new(),
            usage: None,
        }
    }

    /// Every blob that it names, that of the value first.
    pub fn blobs(&self) -> impl Iterator<Item = &BlobRef> {
        let evidence = self.evidence.iter().filter_map(|e| e.blob.as_ref());
        self.value.blob().into_iter().chain(evidence)
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Problem {
    #[serde(with = "code")]
    pub code: Code,
    /// For people: an agent's own words, where it failed the task.
    pub message: String,
    pub retryable: bool,
    /// The agent's own word for it, where it failed the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_code: Option<String>,
    /// How long the agent asks to be left alone before another try; 0 where it did not say.
    #[serde(default)]
    pub retry_after_ms: u64,
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        Self {
            code: error.code,
            message: error.message.to_string(),
            retryable: error.code.is_retryable(),
            agent_code: None,
            retry_after_ms: 0,
        }
    }
}

impl From<&Error> for Outcome {
    fn from(error: &Error) -> Self {
        Self::Problem(error.into())
    }
}

impl Outcome {
    /// A problem of the server's own finding.
    #[must_use]
    pub fn problem(code: Code, message: impl Into<String>) -> Self {
        Self::from(&Error::new(code, message.into()))
    }
}

/// A share, in parts per million.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "u32", into = "u32")]
pub struct Ppm(u32);

/// Why a number is no share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} parts per million is more than the whole")]
pub struct MoreThanAll(pub u32);

impl Ppm {
    pub const ALL: Self = Self(1_000_000);

    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Ppm {
    type Error = MoreThanAll;

    fn try_from(ppm: u32) -> Result<Self, MoreThanAll> {
        if ppm <= Self::ALL.0 {
            Ok(Self(ppm))
        } else {
            Err(MoreThanAll(ppm))
        }
    }
}

impl From<Ppm> for u32 {
    fn from(ppm: Ppm) -> Self {
        ppm.0
    }
}

/// An agent's own estimate of its answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Confidence {
    pub ppm: Ppm,
    /// Who says so, such as `self`, `model`, `checker`.
    pub source: String,
}

/// Something that supports an answer and that a person can look at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Evidence {
    pub kind: String,
    pub summary: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<BlobRef>,
}

/// What a task consumed as its agent counts it; shown, never billed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// In millionths of the currency's minor unit.
    pub cost_micro_minor: u64,
    pub currency: String,
}

/// How far a task is, as its agent says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// `None` when the agent cannot tell.
    pub ppm: Option<Ppm>,
    pub message: String,
}

/// A piece of an answer that its caller may see early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    /// Counts from 1 without holes, per attempt.
    pub seq: u64,
    /// Any bytes: a character may be cut between two of them.
    pub chunk: Bytes,
}

/// An agent's answer to a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelAck {
    /// The work ended without a result.
    Stopped,
    /// A result was sent already, or follows.
    TooLate,
    /// The agent does not have the task.
    Unknown,
}

/// A code as its word.
mod code {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::error::Code;

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes what it writes by reference"
    )]
    pub(super) fn serialize<S: Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(code.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Code, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
