//! What callers and agents say alike to the product and to its floor.

use anyhow::Result;
use bytes::Bytes;
use parallax_proto::v1;
use serde::{Deserialize, Serialize};
use tonic::Request;

/// The one agent's name.
pub(super) const AGENT: &str = "echo";
/// What it offers.
pub(super) const CAPABILITY: &str = "echo";
/// A small document, as most calls carry.
pub(super) const INPUT: &str = r#"{"text":"The delivery came two days late and the box was open, but the shop answered within the hour and sent a new one.","language":"en","options":{"explain":false}}"#;

/// A server to speak to: the product or the relay.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(super) url: String,
    /// The relay does not look at it; it is sent all the same, for the same bytes.
    pub(super) token: String,
}

impl Target {
    /// `http://` and its address.
    pub(super) fn authority(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// A request with the credential.
    pub(super) fn request<T>(&self, message: T) -> Result<Request<T>> {
        let mut request = Request::new(message);
        let bearer = self.bearer().parse()?;
        request.metadata_mut().insert("authorization", bearer);
        Ok(request)
    }
}

/// The input as it travels.
pub(super) fn input() -> v1::Payload {
    v1::Payload {
        content: Some(v1::payload::Content::Json(Bytes::from_static(
            INPUT.as_bytes(),
        ))),
    }
}
