//! Frames in the words of a case.

use anyhow::Context;
use parallax_proto::v1::{BlobRef, Payload, Task, TaskContext, TaskRef, agent_up, payload};
use serde_json::Value;

/// A task that a case is about to give, in a builder's style.
#[derive(Clone, Debug)]
pub struct Order {
    pub(super) task: Task,
}

impl Order {
    /// A task for `capability` with an inline JSON input and no deadline.
    #[must_use]
    pub fn of(capability: &str, input: &Value) -> Self {
        Self::with_bytes(capability, input.to_string().into_bytes())
    }

    /// A task whose inline input is `json`, verbatim; for malformed inputs.
    #[must_use]
    pub fn with_bytes(capability: &str, json: Vec<u8>) -> Self {
        Self::with_payload(capability, payload::Content::Json(json.into()))
    }

    /// A task whose input is a blob.
    #[must_use]
    pub fn with_blob(capability: &str, blob: BlobRef) -> Self {
        Self::with_payload(capability, payload::Content::Blob(blob))
    }

    fn with_payload(capability: &str, content: payload::Content) -> Self {
        Self {
            task: Task {
                capability: capability.to_owned(),
                input: Some(Payload {
                    content: Some(content),
                }),
                context: Some(TaskContext::default()),
                ..Task::default()
            },
        }
    }

    /// With a deadline: what is left in milliseconds, and the server's clock's idea of it.
    #[must_use]
    pub fn due(mut self, time_left_ms: u64, deadline_unix_ms: i64) -> Self {
        self.task.time_left_ms = time_left_ms;
        self.task.deadline_unix_ms = deadline_unix_ms;
        self
    }

    /// With a task context.
    #[must_use]
    pub fn in_context(mut self, context: TaskContext) -> Self {
        self.task.context = Some(context);
        self
    }

    /// As the given attempt; the first when not said.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.task.r#ref.get_or_insert_default().attempt = attempt;
        self
    }
}

/// The JSON value that a payload carries inline.
///
/// # Errors
/// When there is no payload, it is a blob, or it is not JSON.
pub fn json_of(payload: Option<&Payload>) -> anyhow::Result<Value> {
    match payload.and_then(|payload| payload.content.as_ref()) {
        Some(payload::Content::Json(json)) => serde_json::from_slice(json)
            .with_context(|| format!("the value is not UTF-8 JSON: {json:?}")),
        Some(payload::Content::Blob(blob)) => {
            anyhow::bail!("the value is the blob {} and not inline JSON", blob.digest)
        }
        None => anyhow::bail!("the value is missing"),
    }
}

/// `tsk_…#attempt`, or `no ref`.
#[must_use]
pub fn ref_name(task: Option<&TaskRef>) -> String {
    task.map_or_else(
        || "no ref".to_owned(),
        |task| format!("{}#{}", task.task_id, task.attempt),
    )
}

/// The task that a frame speaks of.
pub(super) fn ref_of(frame: &agent_up::Frame) -> Option<&TaskRef> {
    use agent_up::Frame;
    match frame {
        Frame::Accepted(frame) => frame.r#ref.as_ref(),
        Frame::Progress(frame) => frame.r#ref.as_ref(),
        Frame::Partial(frame) => frame.r#ref.as_ref(),
        Frame::Result(frame) => frame.r#ref.as_ref(),
        Frame::Failed(frame) => frame.r#ref.as_ref(),
        Frame::CancelAck(frame) => frame.r#ref.as_ref(),
        Frame::Hello(_)
        | Frame::Credit(_)
        | Frame::Heartbeat(_)
        | Frame::Drain(_)
        | Frame::Pong(_) => None,
    }
}
