//! Between the wire's task values and the store's: an outcome is kept as its protobuf bytes in
//! base 64, inside JSON, because a value may be any JSON and must come back byte for byte.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parallax_core::error::Code;
use parallax_core::task::{BlobRef, Payload};
use parallax_proto::v1;
use prost::Message;

use crate::dispatch::Outcome;

#[derive(serde::Serialize, serde::Deserialize)]
struct Stored {
    /// `TaskOutcome` of the contract.
    outcome: String,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct StoredContext {
    /// `TaskContext` of the contract.
    context: String,
}

/// An outcome as it is stored.
pub fn outcome_to_json(outcome: &Outcome) -> String {
    let bytes = v1::TaskOutcome {
        outcome: Some(outcome.clone()),
    }
    .encode_to_vec();
    serde_json::to_string(&Stored {
        outcome: STANDARD.encode(bytes),
    })
    .expect("a struct of one text")
}

/// The outcome of a server's own making, as it is stored.
pub fn problem_json(code: Code, message: &str) -> String {
    outcome_to_json(&crate::dispatch::problem(
        &parallax_core::error::Error::new(code, message.to_owned()),
    ))
}

/// Reads a stored outcome; `None` for what this version did not write.
pub fn outcome_from_json(json: &str) -> Option<v1::TaskOutcome> {
    let stored: Stored = serde_json::from_str(json).ok()?;
    v1::TaskOutcome::decode(STANDARD.decode(stored.outcome).ok()?.as_slice()).ok()
}

pub fn context_to_json(context: &v1::TaskContext) -> String {
    let context = STANDARD.encode(context.encode_to_vec());
    serde_json::to_string(&StoredContext { context }).expect("a struct of one text")
}

/// Reads a stored context. An unreadable one is empty: it only serves tracing and grouping.
pub fn context_from_json(json: &str) -> v1::TaskContext {
    let stored: Option<StoredContext> = serde_json::from_str(json).ok();
    stored
        .and_then(|stored| STANDARD.decode(stored.context).ok())
        .and_then(|bytes| v1::TaskContext::decode(bytes.as_slice()).ok())
        .unwrap_or_default()
}

pub fn payload_to_core(payload: &v1::Payload) -> Payload {
    match &payload.content {
        Some(v1::payload::Content::Json(json)) => Payload::Json(json.to_vec()),
        Some(v1::payload::Content::Blob(blob)) => Payload::Blob(BlobRef {
            digest: blob.digest.clone(),
            size_bytes: blob.size_bytes,
            media_type: blob.media_type.clone(),
        }),
        None => Payload::Json(b"null".to_vec()),
    }
}

pub fn payload_to_wire(payload: &Payload) -> v1::Payload {
    let content = match payload {
        Payload::Json(json) => v1::payload::Content::Json(json.clone().into()),
        Payload::Blob(blob) => v1::payload::Content::Blob(v1::BlobRef {
            digest: blob.digest.clone(),
            size_bytes: blob.size_bytes,
            media_type: blob.media_type.clone(),
        }),
    };
    v1::Payload {
        content: Some(content),
    }
}
