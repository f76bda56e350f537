//! The gRPC side: conversions and streams. Rules live in `app` and `dispatch`.

mod agents;
mod blobs;
mod hosts;
mod registry;
mod session;
mod tasks;

use parallax_core::error::{Code, Error};
use parallax_core::key::Principal;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tonic::Status;

pub(crate) use agents::AgentGateway;
pub(crate) use blobs::BlobGateway;
pub(crate) use hosts::HostGateway;
pub(crate) use registry::RegistryGateway;
pub(crate) use session::MAX_FRAME_BYTES;
pub(crate) use tasks::TaskGateway;

/// The metadata key that carries an error's stable code.
pub(crate) const CODE_METADATA: &str = "parallax-code";

/// The caller, as the authentication layer found it.
///
/// # Errors
/// Fails when the layer is missing, which is a fault of the server's wiring.
pub(crate) fn principal<T>(request: &tonic::Request<T>) -> Result<Principal, Status> {
    request
        .extensions()
        .get::<Principal>()
        .cloned()
        .ok_or_else(|| Status::internal("the authentication layer is missing"))
}

/// Maps a domain error: the one place where gRPC's codes are chosen.
pub(crate) fn status(error: &Error) -> Status {
    use tonic::Code as G;
    let code = match error.code {
        Code::InvalidRequest
        | Code::MethodNotAllowed
        | Code::InvalidSpec
        | Code::InvalidSource
        | Code::StartCommandMissing
        | Code::PlanFailed
        | Code::InvalidInput => G::InvalidArgument,
        Code::Unauthenticated | Code::CredentialExpired => G::Unauthenticated,
        Code::Forbidden => G::PermissionDenied,
        Code::NotFound | Code::CapabilityUnknown => G::NotFound,
        Code::AlreadyExists => G::AlreadyExists,
        Code::Conflict
        | Code::IdempotencyMismatch
        | Code::ManagedElsewhere
        | Code::IsolationUnavailable => G::FailedPrecondition,
        Code::TooLarge | Code::ResourceExhausted | Code::StorageFull => G::ResourceExhausted,
        Code::AgentUnavailable
        | Code::HostUnavailable
        | Code::StoreUnavailable
        | Code::ShuttingDown => G::Unavailable,
        Code::DeadlineExceeded => G::DeadlineExceeded,
        Code::Cancelled => G::Cancelled,
        Code::AgentFailed | Code::AgentLost => G::Aborted,
        Code::NotImplemented => G::Unimplemented,
        Code::Internal => G::Internal,
    };
    if matches!(error.code, Code::Internal) {
        tracing::error!(%error, source = ?error.source, "request failed");
    }
    let mut status = Status::new(code, error.message.to_string());
    if let Ok(value) = error.code.as_str().parse() {
        status.metadata_mut().insert(CODE_METADATA, value);
    }
    status
}

/// Pieces that fit a frame without blocking a stream for long.
const CHUNK_BYTES: usize = 64 * 1024;

/// Sends a file from where it stands, in chunks.
async fn stream_file<T>(
    mut file: tokio::fs::File,
    chunks: mpsc::Sender<Result<T, Status>>,
    wrap: impl Fn(Vec<u8>) -> T,
) {
    loop {
        let mut data = Vec::with_capacity(CHUNK_BYTES);
        let chunk = match (&mut file)
            .take(CHUNK_BYTES as u64)
            .read_to_end(&mut data)
            .await
        {
            Ok(0) => return,
            Ok(_) => Ok(wrap(data)),
            Err(error) => Err(Status::from(error)),
        };
        let last = chunk.is_err();
        if chunks.send(chunk).await.is_err() || last {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
