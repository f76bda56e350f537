//! `BlobService`: values that are too large for a frame.

use std::sync::Arc;

use parallax_core::blob::{BlobDigest, BlobRef};
use parallax_core::error::Error;
use parallax_core::id::TaskId;
use parallax_proto::v1;
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

fn task_of(reference: Option<v1::TaskRef>) -> Result<Option<TaskId>, Status> {
    let id = reference.map(|reference| reference.task_id.parse());
    id.transpose()
        .map_err(|e| super::status(&Error::invalid(format!("ref: {e}"))))
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
        let task = task_of(header.r#ref)?;
        let promised = BlobRef {
            digest: parse(&header.digest)?,
            size_bytes: header.size_bytes,
            media_type: header.media_type,
        };
        let mut upload = self
            .app
            .begin_blob(&principal, task, &promised)
            .await
            .map_err(|e| super::status(&e))?;
        while let Some(part) = parts.message().await? {
            if let Some(v1::put_blob_request::Part::Chunk(chunk)) = part.part {
                let written = upload.write(&chunk).await;
                written.map_err(|e| super::status(&e.into()))?;
            }
        }
        self.app
            .finish_blob(&principal, upload, &promised)
            .await
            .map_err(|e| super::status(&e))?;
        Ok(Response::new(promised.into()))
    }

    async fn get(
        &self,
        request: Request<v1::GetBlobRequest>,
    ) -> Result<Response<Self::GetStream>, Status> {
        let principal = super::principal(&request)?;
        let body = request.into_inner();
        let task = task_of(body.r#ref)?;
        let digest = parse(&body.digest)?;
        let mut file = self
            .app
            .open_blob(&principal, task, &digest)
            .await
            .map_err(|e| super::status(&e))?;
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
