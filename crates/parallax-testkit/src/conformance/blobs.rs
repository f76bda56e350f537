//! A BlobService in memory, which can hand out what it should not.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use parallax_proto::v1::blob_service_server::BlobService;
use parallax_proto::v1::{
    BlobChunk, BlobRef, GetBlobRequest, PutBlobHeader, PutBlobRequest, put_blob_request,
};
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status, Streaming};

/// Chunks above this block a connection for too long; the contract's own bound.
pub(super) const MAX_CHUNK_BYTES: usize = 64 * 1024;

/// What is wrong with the blobs that the server hands out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tampering {
    /// Nothing.
    #[default]
    None,
    /// One byte differs; the length is right.
    FlipByte,
    /// The last byte is missing.
    Truncate,
    /// The stream ends with a status in the middle.
    BreakOff,
}

/// One finished Put, as the server saw it.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The first message.
    pub header: PutBlobHeader,
    /// The joined chunks.
    pub data: Bytes,
    /// The largest chunk, in bytes.
    pub largest_chunk: usize,
    /// The `authorization` metadata, verbatim.
    pub authorization: Option<String>,
}

/// The blobs of one server. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct BlobStore {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    blobs: HashMap<String, Bytes>,
    uploads: Vec<Upload>,
    fetches: Vec<GetBlobRequest>,
    tampering: Tampering,
    /// Puts that are still to be refused.
    refusals: u32,
}

impl BlobStore {
    /// Keeps `data` and names it.
    #[must_use]
    pub fn keep(&self, data: impl Into<Bytes>) -> BlobRef {
        let data = data.into();
        let blob = BlobRef {
            digest: digest_of(&data),
            size_bytes: data.len() as u64,
            media_type: "application/json".to_owned(),
        };
        self.lock().blobs.insert(blob.digest.clone(), data);
        blob
    }

    /// From now on hands out blobs with this fault.
    pub fn tamper(&self, tampering: Tampering) {
        self.lock().tampering = tampering;
    }

    /// Answers the next `count` Puts with UNAVAILABLE.
    pub fn refuse_puts(&self, count: u32) {
        self.lock().refusals = count;
    }

    /// Every Put that ended well, oldest first.
    #[must_use]
    pub fn uploads(&self) -> Vec<Upload> {
        self.lock().uploads.clone()
    }

    /// Every Get, oldest first.
    #[must_use]
    pub fn fetches(&self) -> Vec<GetBlobRequest> {
        self.lock().fetches.clone()
    }

    fn refuses_put(&self) -> bool {
        let mut inner = self.lock();
        let refuses = inner.refusals > 0;
        inner.refusals = inner.refusals.saturating_sub(1);
        refuses
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `sha256:` and the digest of `data` in hexadecimal.
#[must_use]
pub fn digest_of(data: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(data) {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[tonic::async_trait]
impl BlobService for BlobStore {
    type GetStream = Pin<Box<dyn Stream<Item = Result<BlobChunk, Status>> + Send>>;

    async fn put(
        &self,
        request: Request<Streaming<PutBlobRequest>>,
    ) -> Result<Response<BlobRef>, Status> {
        if self.refuses_put() {
            return Err(Status::unavailable("the blob store is away for a moment"));
        }
        let authorization = super::server::authorization_of(request.metadata());
        let mut parts = request.into_inner();
        let first = parts.message().await?.and_then(|request| request.part);
        let Some(put_blob_request::Part::Header(header)) = first else {
            return Err(Status::invalid_argument(
                "the first message is not the header",
            ));
        };
        let mut data = BytesMut::new();
        let mut largest_chunk = 0;
        while let Some(request) = parts.message().await? {
            let Some(put_blob_request::Part::Chunk(chunk)) = request.part else {
                return Err(Status::invalid_argument(
                    "a second header, or an empty part",
                ));
            };
            largest_chunk = largest_chunk.max(chunk.len());
            data.extend_from_slice(&chunk);
        }
        let data = data.freeze();
        if header.digest != digest_of(&data) || header.size_bytes != data.len() as u64 {
            return Err(Status::invalid_argument(format!(
                "the header says {} and {} bytes, the chunks are {} and {} bytes",
                header.digest,
                header.size_bytes,
                digest_of(&data),
                data.len()
            )));
        }
        let blob = BlobRef {
            media_type: header.media_type.clone(),
            ..self.keep(data.clone())
        };
        self.lock().uploads.push(Upload {
            header,
            data,
            largest_chunk,
            authorization,
        });
        Ok(Response::new(blob))
    }

    async fn get(
        &self,
        request: Request<GetBlobRequest>,
    ) -> Result<Response<Self::GetStream>, Status> {
        let request = request.into_inner();
        let (data, tampering) = {
            let mut inner = self.lock();
            inner.fetches.push(request.clone());
            let Some(data) = inner.blobs.get(&request.digest).cloned() else {
                return Err(Status::not_found(format!("no blob {}", request.digest)));
            };
            (data, inner.tampering)
        };
        let start = usize::try_from(request.offset).map_or(data.len(), |at| at.min(data.len()));
        let chunks = served(&data, tampering, start);
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }
}

/// The chunks of a Get from `start`, with the fault applied.
fn served(data: &Bytes, tampering: Tampering, start: usize) -> Vec<Result<BlobChunk, Status>> {
    let mut copy = BytesMut::from(data.as_ref());
    match tampering {
        Tampering::None | Tampering::BreakOff => {}
        Tampering::FlipByte => {
            // The middle byte stays printable, so that only the digest tells.
            let middle = copy.len() / 2;
            copy[middle] = if copy[middle] == b'y' { b'z' } else { b'y' };
        }
        Tampering::Truncate => copy.truncate(copy.len().saturating_sub(1)),
    }
    let copy = copy.freeze();
    let mut chunks: Vec<_> = copy
        .slice(start.min(copy.len())..)
        .chunks(MAX_CHUNK_BYTES)
        .map(|chunk| {
            Ok(BlobChunk {
                data: Bytes::copy_from_slice(chunk),
            })
        })
        .collect();
    if tampering == Tampering::BreakOff {
        chunks.truncate(1);
        chunks.push(Err(Status::data_loss("the blob's store broke off")));
    }
    chunks
}
