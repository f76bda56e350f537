//! How tasks end, as the API shows it.

use bytes::Bytes;
use parallax_api::tasks::{BlobView, Confidence, Evidence, InvokeResponse, TaskOutcome, TaskUsage};
use parallax_core::id::TaskId;
use parallax_proto::v1;
use serde_json::value::RawValue;

use super::problem::task_problem;

/// An agent's answer.
pub(crate) fn answer(task_id: TaskId, success: &v1::TaskSuccess) -> InvokeResponse {
    let (value, blob) = match success
        .value
        .as_ref()
        .and_then(|value| value.content.as_ref())
    {
        Some(v1::payload::Content::Json(json)) => (Some(raw(json)), None),
        Some(v1::payload::Content::Blob(blob)) => (None, Some(blob_view(blob))),
        None => (Some(RawValue::NULL.to_owned()), None),
    };
    InvokeResponse {
        task_id,
        value,
        blob,
        confidence: success.confidence.as_ref().map(|c| Confidence {
            value_ppm: c.ppm,
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
pub(crate) fn outcome(task: TaskId, outcome: &v1::TaskOutcome) -> Option<TaskOutcome> {
    Some(match outcome.outcome.as_ref()? {
        v1::task_outcome::Outcome::Success(success) => TaskOutcome {
            answer: Some(answer(task, success)),
            problem: None,
        },
        v1::task_outcome::Outcome::Problem(problem) => TaskOutcome {
            answer: None,
            problem: Some(task_problem(problem)),
        },
    })
}

/// Every blob that an answer names.
pub(crate) fn blobs(success: &v1::TaskSuccess) -> Vec<v1::BlobRef> {
    let value = success
        .value
        .as_ref()
        .and_then(|value| match value.content.as_ref()? {
            v1::payload::Content::Blob(blob) => Some(blob),
            v1::payload::Content::Json(_) => None,
        });
    let evidence = success
        .evidence
        .iter()
        .filter_map(|evidence| evidence.blob.as_ref());
    value.into_iter().chain(evidence).cloned().collect()
}

fn evidence(evidence: &v1::Evidence) -> Evidence {
    let detail = Some(&evidence.detail_json).filter(|json| !json.is_empty());
    Evidence {
        kind: evidence.kind.clone(),
        summary: evidence.summary.clone(),
        detail: detail.map(raw),
        blob: evidence.blob.as_ref().map(blob_view),
    }
}

fn blob_view(blob: &v1::BlobRef) -> BlobView {
    BlobView {
        digest: blob.digest.clone(),
        size_bytes: blob.size_bytes,
        media_type: blob.media_type.clone(),
    }
}

/// An agent's JSON byte for byte. What is no JSON after all is shown as a text, so that one bad
/// agent cannot make a response that nobody can read.
fn raw(json: &Bytes) -> Box<RawValue> {
    let text = String::from_utf8_lossy(json).into_owned();
    RawValue::from_string(text.clone()).unwrap_or_else(|_| {
        let quoted = serde_json::to_string(&text).expect("a text can be written as JSON");
        RawValue::from_string(quoted).expect("it was just written as JSON")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn success(json: &'static [u8]) -> v1::TaskSuccess {
        let content = Some(v1::payload::Content::Json(Bytes::from_static(json)));
        v1::TaskSuccess {
            value: Some(v1::Payload { content }),
            ..Default::default()
        }
    }

    fn check(json: &'static [u8], expected: &str) {
        let task = "tsk_00000000000000000000000000".parse().expect("an id");
        let value = answer(task, &success(json)).value.expect("there is one");
        assert_eq!(value.get(), expected);
    }

    #[test]
    fn a_value_keeps_its_bytes() {
        check(
            br#"{"b": 1.0,"a":123456789012345678901}"#,
            r#"{"b": 1.0,"a":123456789012345678901}"#,
        );
    }

    #[test]
    fn what_is_no_json_is_shown_as_text() {
        check(b"{oops", "\"{oops\"");
    }
}
