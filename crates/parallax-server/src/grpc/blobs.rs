//! `BlobService`: values that are too large for a frame.

use std::sync::Arc;

use parallax_core::error::Error;
use parallax_core::task::MAX_BLOB_BYTES;
use parallax_proto::v1;
use parallax_store::BlobDigest;
use tokio::io::AsyncSeekExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::app::App;

pub(crate) struct BlobGateway {
    app: Arc<App>,
}

impl BlobGateway {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

fn parse(digest: &str) -> Result<BlobDigest, Status> {
    digest
        .parse()
        .map_err(|e| super::status(&Error::invalid(format!("digest: {e}"))))
}

#[tonic::async_trait]
impl v1::blob_service_server::BlobService for BlobGateway {
    type GetStream = ReceiverStream<Result<v1::BlobChunk, Status>>;

    async fn put(
        &self,
        request: Request<Streaming<v1::PutBlobRequest>>,
    ) -> Result<Response<v1::BlobRef>, Status> {
        let principal = super::principal(&request)?;
        let mut parts = request.into_inner();
        let first = parts.message().await?.and_then(|part| part.part);
        let Some(v1::put_blob_request::Part::Header(header)) = first else {
            return Err(Status::invalid_argument(
                "the first message of Put must be the header",
            ));
        };
        self.app
            .may_put_blob(&principal, &header)
            .map_err(|e| super::status(&e))?;
        let begun = self.app.blobs.put(principal.tenant, MAX_BLOB_BYTES).await;
        let mut upload = begun.map_err(|e| super::status(&e.into()))?;
        let mut size_bytes = 0;
        while let Some(part) = parts.message().await? {
            if let Some(v1::put_blob_request::Part::Chunk(chunk)) = part.part {
                size_bytes += chunk.len() as u64;
                upload
                    .write(&chunk)
                    .await
                    .map_err(|e| super::status(&e.into()))?;
            }
        }
        let stored = self
            .app
            .finish_blob(&principal, upload, header, size_bytes)
            .await
            .map_err(|e| super::status(&e))?;
        Ok(Response::new(stored))
    }

    async fn get(
        &self,
        request: Request<v1::GetBlobRequest>,
    ) -> Result<Response<Self::GetStream>, Status> {
        let principal = super::principal(&request)?;
        let body = request.into_inner();
        self.app
            .may_get_blob(&principal, &body)
            .map_err(|e| super::status(&e))?;
        let digest = parse(&body.digest)?;
        let opened = self.app.blobs.get(principal.tenant, &digest).await;
        let opened = opened.map_err(|e| super::status(&e.into()))?;
        let mut file =
            opened.ok_or_else(|| super::status(&Error::not_found("blob", &body.digest)))?;
        file.seek(std::io::SeekFrom::Start(body.offset)).await?;
        let (chunks, outbound) = mpsc::channel(4);
        self.app
            .tasks
            .spawn(super::stream_file(file, chunks, |data| v1::BlobChunk {
                data: data.into(),
            }));
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}
