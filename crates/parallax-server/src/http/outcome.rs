//! Between the wire's outcomes and the API's answers.

use parallax_api::tasks as api;
use parallax_core::error::Error;
use parallax_core::id::TaskId;
use parallax_proto::v1;
use serde_json::value::RawValue;

use crate::app::tasks::TaskRecord;

/// A successful outcome as the API shows it.
pub(super) fn answer(
    task_id: TaskId,
    success: v1::TaskSuccess,
) -> Result<api::InvokeResponse, Error> {
    let (value, blob) = value(success.value)?;
    Ok(api::InvokeResponse {
        task_id,
        value,
        blob,
        confidence: success.confidence.map(|c| api::Confidence {
            value_ppm: c.ppm,
            source: c.source,
        }),
        evidence: success
            .evidence
            .into_iter()
            .map(evidence)
            .collect::<Result<_, _>>()?,
        usage: success.usage.map(|u| api::TaskUsage {
            input_tokens: u.input_tokens,
            output_tokens: u.output_tokens,
            cost_micro_minor: u.cost_micro_minor,
            currency: u.currency,
        }),
    })
}

pub(super) fn problem(problem: v1::TaskProblem) -> api::TaskProblem {
    api::TaskProblem {
        code: problem.code,
        message: problem.message,
        retryable: problem.retryable,
        agent_code: Some(problem.agent_code).filter(|code| !code.is_empty()),
    }
}

/// A task as the API shows it.
pub(super) fn task_view(record: TaskRecord) -> Result<api::TaskView, Error> {
    let row = record.row;
    let outcome = match record.outcome.and_then(|o| o.outcome) {
        Some(v1::task_outcome::Outcome::Success(success)) => Some(api::TaskOutcome {
            answer: Some(answer(row.id, success)?),
            problem: None,
        }),
        Some(v1::task_outcome::Outcome::Problem(found)) => Some(api::TaskOutcome {
            answer: None,
            problem: Some(problem(found)),
        }),
        None => None,
    };
    Ok(api::TaskView {
        id: row.id,
        agent: row.agent_name.to_string(),
        agent_id: row.agent,
        capability: row.capability,
        state: row.state,
        cancel: row.cancel,
        attempt: row.attempt,
        outcome,
        idempotency_key: row.idempotency_key,
        caller: row.caller,
        deadline: row.deadline.map(Into::into),
        created_at: row.created_at.into(),
        updated_at: row.updated_at.into(),
    })
}

type Value = (Option<Box<RawValue>>, Option<api::BlobView>);

fn value(payload: Option<v1::Payload>) -> Result<Value, Error> {
    match payload.and_then(|p| p.content) {
        Some(v1::payload::Content::Json(json)) => Ok((raw(&json)?, None)),
        Some(v1::payload::Content::Blob(blob)) => Ok((None, Some(blob_view(blob)))),
        None => Ok((raw(b"null")?, None)),
    }
}

fn evidence(evidence: v1::Evidence) -> Result<api::Evidence, Error> {
    let detail = match evidence.detail_json.is_empty() {
        true => None,
        false => raw(&evidence.detail_json)?,
    };
    Ok(api::Evidence {
        kind: evidence.kind,
        summary: evidence.summary,
        detail,
        blob: evidence.blob.map(blob_view),
    })
}

fn raw(json: &[u8]) -> Result<Option<Box<RawValue>>, Error> {
    let parsed: Result<Box<RawValue>, _> = serde_json::from_slice(json);
    parsed.map(Some).map_err(|e| {
        Error::new(
            parallax_core::error::Code::AgentFailed,
            format!("the agent's value is not JSON: {e}"),
        )
    })
}

fn blob_view(blob: v1::BlobRef) -> api::BlobView {
    api::BlobView {
        digest: blob.digest,
        size_bytes: blob.size_bytes,
        media_type: blob.media_type,
    }
}
