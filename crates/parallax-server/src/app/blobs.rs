//! Large values of tasks.

use std::sync::Arc;

use parallax_core::error::{Code, Error, Result};
use parallax_core::id::TaskId;
use parallax_core::key::{Principal, PrincipalKind, Scope};
use parallax_core::task::MAX_BLOB_BYTES;
use parallax_proto::v1;
use parallax_store::{BlobDigest, BlobWriter, sources};

use super::App;
use crate::auth::require;
use crate::dispatch::Call;

impl App {
    /// Whether the caller may store a blob, as the header describes it.
    ///
    /// # Errors
    /// `forbidden`, `too_large`, `invalid_request`.
    pub fn may_put_blob(&self, principal: &Principal, header: &v1::PutBlobHeader) -> Result<()> {
        if header.size_bytes > MAX_BLOB_BYTES {
            let message = format!(
                "a blob may have at most {MAX_BLOB_BYTES} bytes, this one has {}",
                header.size_bytes
            );
            return Err(Error::new(Code::TooLarge, message));
        }
        parse(&header.digest)?;
        self.check_task_blob(principal, header.r#ref.as_ref(), Scope::Invoke)
            .map(drop)
    }

    /// Puts an uploaded blob in place, if it is what the header promised. It is kept for as long
    /// as history is, counted from its last upload.
    ///
    /// # Errors
    /// `invalid_request` for a blob of another size or digest, and whatever the disk says.
    pub async fn finish_blob(
        &self,
        principal: &Principal,
        upload: BlobWriter,
        header: v1::PutBlobHeader,
        size_bytes: u64,
    ) -> Result<v1::BlobRef> {
        if size_bytes != header.size_bytes {
            let message = format!(
                "the header promised {} bytes, {size_bytes} arrived",
                header.size_bytes
            );
            return Err(Error::invalid(message));
        }
        let digest = parse(&header.digest)?;
        let noted = sources::Source {
            tenant: principal.tenant,
            digest: header.digest.clone(),
            size_bytes,
            created_at: self.clock.now(),
        };
        let _use = self.collecting.read().await;
        let written = self.store.write(principal.tenant, noted, |tx, noted| {
            Box::pin(async move { sources::put(tx, noted).await })
        });
        written.await?;
        upload.finish(Some(&digest)).await?;
        Ok(v1::BlobRef {
            digest: header.digest,
            size_bytes,
            media_type: header.media_type,
        })
    }

    /// Whether the caller may read a blob: any of the tenant's with `read`; an agent only the input
    /// of a task that it holds.
    ///
    /// # Errors
    /// `forbidden`, `invalid_request`, `not_found`.
    pub fn may_get_blob(&self, principal: &Principal, request: &v1::GetBlobRequest) -> Result<()> {
        let held = self.check_task_blob(principal, request.r#ref.as_ref(), Scope::Read)?;
        let Some(call) = held else { return Ok(()) };
        match &call.input.content {
            Some(v1::payload::Content::Blob(input)) if input.digest == request.digest => Ok(()),
            _ => Err(Error::not_found("blob of this task", &request.digest)),
        }
    }

    /// An agent may touch the blobs of a task that it holds, which is answered; a key needs the
    /// scope.
    fn check_task_blob(
        &self,
        principal: &Principal,
        task: Option<&v1::TaskRef>,
        scope: Scope,
    ) -> Result<Option<Arc<Call>>> {
        if principal.scopes.allows(scope) {
            return Ok(None);
        }
        require(principal, Scope::Agent)?;
        let id: TaskId = match task {
            Some(task) => task
                .task_id
                .parse()
                .map_err(|e| Error::invalid(format!("{e}")))?,
            None => {
                return Err(Error::new(
                    Code::Forbidden,
                    "an agent must name the task that the blob belongs to",
                ));
            }
        };
        let held = self
            .directory
            .held_by(principal.tenant, id, |peer| match &principal.kind {
                PrincipalKind::Replica { replica, .. } => {
                    peer.hosted.is_some_and(|(_, held_by)| held_by == *replica)
                }
                // External agents of one key are one party: what one may read, so may the other.
                PrincipalKind::Key(key) => peer.key == Some(*key),
                PrincipalKind::Host { .. } => false,
            });
        held.ok_or_else(|| Error::not_found("task held by this agent", id))
            .map(Some)
    }
}

fn parse(digest: &str) -> Result<BlobDigest> {
    digest
        .parse()
        .map_err(|e| Error::invalid(format!("digest: {e}")))
}

#[cfg(test)]
mod tests;
