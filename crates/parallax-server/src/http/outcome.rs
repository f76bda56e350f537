//! How tasks end, as the API shows it.

use parallax_api::tasks::{BlobView, Confidence, Evidence, InvokeResponse, TaskOutcome, TaskUsage};
use parallax_core::blob::BlobRef;
use parallax_core::id::TaskId;
use parallax_core::json::Json;
use parallax_core::task::{self, Outcome, Payload, Success};

use super::problem::task_problem;

/// An agent's answer.
pub(crate) fn answer(task_id: TaskId, success: &Success) -> InvokeResponse {
    let (value, blob) = match &success.value {
        Payload::Json(json) => (Some(json.to_raw()), None),
        Payload::Blob(blob) => (None, Some(blob_view(blob))),
    };
    InvokeResponse {
        task_id,
        value,
        blob,
        confidence: success.confidence.as_ref().map(|c| Confidence {
            value_ppm: c.ppm.get(),
            source: c.source.clone(),
        }),
        evidence: success.evidence.iter().map(evidence).collect(),
        usage: success.usage.as_ref().map(|usage| TaskUsage {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cost_micro_minor: usage.cost_micro_minor,
            currency: usage.currency.clone(),
        }),
    }
}

/// How a durable task ended.
pub(crate) fn outcome(task: TaskId, outcome: &Outcome) -> TaskOutcome {
    match outcome {
        Outcome::Success(success) => TaskOutcome {
            answer: Some(answer(task, success)),
            problem: None,
        },
        Outcome::Problem(problem) => TaskOutcome {
            answer: None,
            problem: Some(task_problem(problem)),
        },
    }
}

fn evidence(evidence: &task::Evidence) -> Evidence {
    Evidence {
        kind: evidence.kind.clone(),
        summary: evidence.summary.clone(),
        detail: evidence.detail.as_ref().map(Json::to_raw),
        blob: evidence.blob.as_ref().map(blob_view),
    }
}

fn blob_view(blob: &BlobRef) -> BlobView {
    BlobView {
        digest: blob.digest.to_string(),
        size_bytes: blob.size_bytes,
        media_type: blob.media_type.clone(),
    }
}
