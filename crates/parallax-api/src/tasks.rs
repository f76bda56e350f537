//! Calling agents, and tasks.

use parallax_core::id::{AgentId, TaskId};
use parallax_core::task::{CancelState, TaskState};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::Time;

/// A call. `input` reaches the agent byte for byte.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InvokeRequest {
    #[schema(example = "score")]
    pub capability: String,
    /// Any JSON of at most 256 KiB; `null` when absent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    #[schema(value_type = Option<serde_json::Value>)]
    pub input: Option<Box<RawValue>>,
    /// Milliseconds until the call is given up; the server's default when absent. A durable task
    /// without one keeps trying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Groups tasks that belong to one conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_id: Option<String>,
}

/// An agent's answer. Either `value` or `blob` is there.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct InvokeResponse {
    #[schema(value_type = String)]
    pub task_id: TaskId,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    #[schema(value_type = Option<serde_json::Value>)]
    pub value: Option<Box<RawValue>>,
    /// A value that is too large to be sent along: see `GET /api/tasks/{id}/blob`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<BlobView>,
    /// The agent's own estimate; absent means unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<TaskUsage>,
}

/// A stored value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlobView {
    /// `sha256:…`
    pub digest: String,
    pub size_bytes: u64,
    pub media_type: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Confidence {
    /// Parts per million, 0 to 1 000 000.
    pub value_ppm: u32,
    /// Who says so: `self`, `model`, `checker`.
    pub source: String,
}

/// Something that supports a result and that a person can look at.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    pub kind: String,
    pub summary: String,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    #[schema(value_type = Option<serde_json::Value>)]
    pub detail: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<BlobView>,
}

/// What a task consumed as its agent counts it; shown, never billed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskUsage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// In millionths of the currency's minor unit.
    pub cost_micro_minor: u64,
    pub currency: String,
}

/// A durable task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    #[schema(value_type = String, example = "tsk_06f9x2k8000000000000000000")]
    pub id: TaskId,
    /// The agent's name.
    pub agent: String,
    /// The hosted agent's id; absent for external agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub agent_id: Option<AgentId>,
    pub capability: String,
    #[schema(schema_with = crate::schema::task_state)]
    pub state: TaskState,
    /// How far an asked-for cancel has come.
    #[schema(schema_with = crate::schema::cancel_state)]
    pub cancel: CancelState,
    /// The attempt under way or the last one; 0 before the first dispatch.
    pub attempt: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<TaskOutcome>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The name of the credential that asked.
    pub caller: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    pub created_at: Time,
    pub updated_at: Time,
}

/// How a task ended: an answer or a problem.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskOutcome {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<InvokeResponse>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<TaskProblem>,
}

/// Why a task has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskProblem {
    #[schema(schema_with = crate::schema::code)]
    pub code: String,
    pub message: String,
    pub retryable: bool,
    /// The agent's own word, where the agent failed the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_code: Option<String>,
    /// How long the agent asks to be left alone before another try, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// A change of a task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskEventView {
    /// Go on after it with `Last-Event-ID` or `?after=`.
    pub cursor: u64,
    pub at: Time,
    /// The state that it went into.
    pub kind: String,
    /// The task as it is now, which may be further on.
    pub task: TaskView,
}

/// What a stream of an attached call carries, and a stream of a task's events; the field that is
/// named like the kind is there. A call ends with `answer` or `problem`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskEntry {
    #[serde(rename = "type")]
    pub kind: TaskEntryKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Box<TaskEventView>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<PartialView>,
    /// How many of these two were missed, because they were not read in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Box<InvokeResponse>>,
    /// Why there is no answer, or why the server ended the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Box<crate::Problem>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskEntryKind {
    Event,
    Progress,
    Partial,
    Skipped,
    Answer,
    Problem,
}

impl TaskEntry {
    /// An entry without its field.
    #[must_use]
    pub fn new(kind: TaskEntryKind) -> Self {
        Self {
            kind,
            event: None,
            progress: None,
            partial: None,
            skipped: None,
            answer: None,
            problem: None,
        }
    }
}

/// Asks for a stop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {
    /// Shown to the agent.
    #[serde(default)]
    pub reason: String,
}

/// An answer to a question of a running task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskInput {
    /// Names the question.
    pub input_id: String,
    #[schema(value_type = serde_json::Value)]
    pub value: Box<RawValue>,
}

/// An early sign of life of an attached call, as server-sent events carry it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProgressView {
    /// Parts per million; absent when the agent cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ppm: Option<u32>,
    pub message: String,
}

/// A piece of a result. Holes in `seq` were dropped because nobody read them in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartialView {
    pub seq: u64,
    /// The piece as text; bytes that are no UTF-8 are replaced.
    pub chunk: String,
}

/// Tells an explicit `null` from an absent field.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_keeps_its_bytes() {
        let text = r#"{"capability":"c","input":{"b": 1.0,  "a":12345678901234567890123}}"#;
        let request: InvokeRequest = serde_json::from_str(text).expect("well-formed");
        let input = request.input.expect("there is one");
        assert_eq!(input.get(), r#"{"b": 1.0,  "a":12345678901234567890123}"#);
    }

    #[test]
    fn an_explicit_null_is_an_input() {
        let request: InvokeRequest =
            serde_json::from_str(r#"{"capability":"c","input":null}"#).expect("well-formed");
        assert_eq!(
            request.input.map(|v| v.get().to_owned()).as_deref(),
            Some("null")
        );
        assert!(serde_json::from_str::<InvokeRequest>(r#"{"capability":"c","inptu":1}"#).is_err());
    }
}
