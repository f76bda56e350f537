//! Values, answers and signs of life of tasks.

use parallax_core::blob::{BlobRef, MalformedDigest};
use parallax_core::error::Code;
use parallax_core::json::{Json, NotJson};
use parallax_core::task::{
    CancelAck, Confidence, Evidence, MoreThanAll, Outcome, Partial, Payload, Ppm, Problem,
    Progress, Success, TaskContext, Usage,
};

use crate::v1;

/// Why a value is not what its message promises.
#[derive(Debug, thiserror::Error)]
pub enum InvalidValue {
    #[error(transparent)]
    NotJson(#[from] NotJson),
    #[error(transparent)]
    Digest(#[from] MalformedDigest),
}

/// Which part of an agent's answer is not what its message promises; the source says why.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAnswer {
    #[error("bad value")]
    Value(#[source] InvalidValue),
    #[error("bad evidence `{kind}`")]
    Evidence {
        kind: String,
        #[source]
        invalid: InvalidValue,
    },
    #[error("bad confidence")]
    Confidence(#[source] MoreThanAll),
}

impl TryFrom<v1::BlobRef> for BlobRef {
    type Error = InvalidValue;

    fn try_from(blob: v1::BlobRef) -> Result<Self, InvalidValue> {
        Ok(Self {
            digest: blob.digest.try_into()?,
            size_bytes: blob.size_bytes,
            media_type: blob.media_type,
        })
    }
}

impl From<BlobRef> for v1::BlobRef {
    fn from(blob: BlobRef) -> Self {
        Self {
            digest: blob.digest.into(),
            size_bytes: blob.size_bytes,
            media_type: blob.media_type,
        }
    }
}

impl TryFrom<v1::Payload> for Payload {
    type Error = InvalidValue;

    /// No content at all is `null`.
    fn try_from(payload: v1::Payload) -> Result<Self, InvalidValue> {
        use v1::payload::Content;
        Ok(match payload.content {
            None => Self::default(),
            Some(Content::Json(json)) => Self::Json(Json::parse(json)?),
            Some(Content::Blob(blob)) => Self::Blob(blob.try_into()?),
        })
    }
}

impl From<Payload> for v1::Payload {
    fn from(payload: Payload) -> Self {
        let content = match payload {
            Payload::Json(json) => v1::payload::Content::Json(json.into_bytes()),
            Payload::Blob(blob) => v1::payload::Content::Blob(blob.into()),
        };
        Self {
            content: Some(content),
        }
    }
}

impl From<v1::TaskContext> for TaskContext {
    fn from(context: v1::TaskContext) -> Self {
        Self {
            traceparent: context.traceparent,
            tracestate: context.tracestate,
            baggage: context.baggage,
            message_id: context.message_id,
            context_id: context.context_id,
            session_id: context.session_id,
            caller: context.caller,
        }
    }
}

impl From<TaskContext> for v1::TaskContext {
    fn from(context: TaskContext) -> Self {
        Self {
            traceparent: context.traceparent,
            tracestate: context.tracestate,
            baggage: context.baggage,
            message_id: context.message_id,
            context_id: context.context_id,
            session_id: context.session_id,
            caller: context.caller,
        }
    }
}

impl TryFrom<v1::TaskResult> for Success {
    type Error = InvalidAnswer;

    fn try_from(result: v1::TaskResult) -> Result<Self, InvalidAnswer> {
        let value = result.value.unwrap_or_default();
        let confidence = result.confidence.map(Confidence::try_from).transpose();
        let evidence = result.evidence.into_iter().map(Evidence::try_from);
        Ok(Self {
            value: value.try_into().map_err(InvalidAnswer::Value)?,
            confidence: confidence.map_err(InvalidAnswer::Confidence)?,
            evidence: evidence.collect::<Result<_, _>>()?,
            usage: result.usage.map(Usage::from),
        })
    }
}

impl From<Success> for v1::TaskSuccess {
    fn from(success: Success) -> Self {
        Self {
            value: Some(success.value.into()),
            confidence: success.confidence.map(v1::Confidence::from),
            evidence: success
                .evidence
                .into_iter()
                .map(v1::Evidence::from)
                .collect(),
            usage: success.usage.map(v1::TaskUsage::from),
        }
    }
}

/// Longest pause before another try that an agent may ask for: a day. Whoever asks for more wants
/// the task to fail.
const LONGEST_RETRY_AFTER_MS: u64 = 24 * 60 * 60 * 1000;

impl From<v1::TaskFailed> for Problem {
    fn from(failed: v1::TaskFailed) -> Self {
        Self {
            code: match failed.code.as_str() {
                "invalid_input" => Code::InvalidInput,
                "deadline_exceeded" => Code::DeadlineExceeded,
                "cancelled" => Code::Cancelled,
                _ => Code::AgentFailed,
            },
            message: failed.message,
            retryable: failed.retryable,
            agent_code: Some(failed.code).filter(|code| !code.is_empty()),
            retry_after_ms: failed.retry_after_ms.min(LONGEST_RETRY_AFTER_MS),
        }
    }
}

impl From<Problem> for v1::TaskProblem {
    fn from(problem: Problem) -> Self {
        Self {
            code: problem.code.as_str().to_owned(),
            message: problem.message,
            retryable: problem.retryable,
            agent_code: problem.agent_code.unwrap_or_default(),
            retry_after_ms: problem.retry_after_ms,
        }
    }
}

impl From<Outcome> for v1::TaskOutcome {
    fn from(outcome: Outcome) -> Self {
        let outcome = match outcome {
            Outcome::Success(success) => v1::task_outcome::Outcome::Success(success.into()),
            Outcome::Problem(problem) => v1::task_outcome::Outcome::Problem(problem.into()),
        };
        Self {
            outcome: Some(outcome),
        }
    }
}

impl TryFrom<v1::Confidence> for Confidence {
    type Error = MoreThanAll;

    fn try_from(confidence: v1::Confidence) -> Result<Self, MoreThanAll> {
        Ok(Self {
            ppm: confidence.ppm.try_into()?,
            source: confidence.source,
        })
    }
}

impl From<Confidence> for v1::Confidence {
    fn from(confidence: Confidence) -> Self {
        Self {
            ppm: confidence.ppm.get(),
            source: confidence.source,
        }
    }
}

impl TryFrom<v1::Evidence> for Evidence {
    type Error = InvalidAnswer;

    fn try_from(evidence: v1::Evidence) -> Result<Self, InvalidAnswer> {
        let detail = Some(evidence.detail_json).filter(|json| !json.is_empty());
        let detail = detail.map(Json::parse).transpose();
        let blob = evidence.blob.map(BlobRef::try_from).transpose();
        match (detail, blob) {
            (Ok(detail), Ok(blob)) => Ok(Self {
                kind: evidence.kind,
                summary: evidence.summary,
                detail,
                blob,
            }),
            (Err(not_json), _) => Err(InvalidAnswer::Evidence {
                kind: evidence.kind,
                invalid: not_json.into(),
            }),
            (_, Err(invalid)) => Err(InvalidAnswer::Evidence {
                kind: evidence.kind,
                invalid,
            }),
        }
    }
}

impl From<Evidence> for v1::Evidence {
    fn from(evidence: Evidence) -> Self {
        Self {
            kind: evidence.kind,
            summary: evidence.summary,
            detail_json: evidence.detail.map(Json::into_bytes).unwrap_or_default(),
            blob: evidence.blob.map(v1::BlobRef::from),
        }
    }
}

impl From<v1::TaskUsage> for Usage {
    fn from(usage: v1::TaskUsage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cost_micro_minor: usage.cost_micro_minor,
            currency: usage.currency,
        }
    }
}

impl From<Usage> for v1::TaskUsage {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cost_micro_minor: usage.cost_micro_minor,
            currency: usage.currency,
        }
    }
}

impl TryFrom<v1::Progress> for Progress {
    type Error = MoreThanAll;

    fn try_from(progress: v1::Progress) -> Result<Self, MoreThanAll> {
        Ok(Self {
            ppm: progress.ppm.map(Ppm::try_from).transpose()?,
            message: progress.message,
        })
    }
}

impl From<Progress> for v1::TaskProgress {
    fn from(progress: Progress) -> Self {
        Self {
            ppm: progress.ppm.map(Ppm::get),
            message: progress.message,
        }
    }
}

impl From<v1::Partial> for Partial {
    fn from(partial: v1::Partial) -> Self {
        Self {
            seq: partial.seq,
            chunk: partial.chunk,
        }
    }
}

impl From<Partial> for v1::TaskPartial {
    fn from(partial: Partial) -> Self {
        Self {
            seq: partial.seq,
            chunk: partial.chunk,
        }
    }
}

impl From<v1::cancel_ack::Outcome> for CancelAck {
    fn from(outcome: v1::cancel_ack::Outcome) -> Self {
        use v1::cancel_ack::Outcome as O;
        match outcome {
            O::Stopped => Self::Stopped,
            O::TooLate => Self::TooLate,
            // Whoever does not say holds nothing that we could wait for.
            O::Unknown | O::Unspecified => Self::Unknown,
        }
    }
}
