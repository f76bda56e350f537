//! Large values of tasks.

use std::sync::Arc;

use parallax_core::blob::{BlobDigest, BlobRef};
use parallax_core::error::{Code, Error, Result};
use parallax_core::id::{TaskId, TenantId};
use parallax_core::key::{Principal, PrincipalKind, Scope};
use parallax_core::task::{MAX_BLOB_BYTES, Success};
use parallax_store::{BlobWriter, sources};
use tokio::fs::File;

use super::App;
use crate::auth::require;
use crate::dispatch::Call;

impl App {
    /// Begins to store a blob, as part of the task that the caller holds, or as an input.
    ///
    /// # Errors
    /// `forbidden`, `too_large`, and whatever the disk says.
    pub async fn begin_blob(
        &self,
        principal: &Principal,
        task: Option<TaskId>,
        blob: &BlobRef,
    ) -> Result<BlobWriter> {
        self.may_put_blob(principal, task, blob)?;
        Ok(self.blobs.put(principal.tenant, MAX_BLOB_BYTES).await?)
    }

    fn may_put_blob(
        &self,
        principal: &Principal,
        task: Option<TaskId>,
        blob: &BlobRef,
    ) -> Result<()> {
        if blob.size_bytes > MAX_BLOB_BYTES {
            let message = format!(
                "a blob may have at most {MAX_BLOB_BYTES} bytes, this one has {}",
                blob.size_bytes
            );
            return Err(Error::new(Code::TooLarge, message));
        }
        self.check_task_blob(principal, task, Scope::Invoke)
            .map(drop)
    }

    /// Puts an uploaded blob in place, if it is what was promised. It is kept for as long as
    /// history is, counted from its last upload.
    ///
    /// # Errors
    /// `invalid_request` for a blob of another size or digest, and whatever the disk says.
    pub async fn finish_blob(
        &self,
        principal: &Principal,
        upload: BlobWriter,
        promised: &BlobRef,
    ) -> Result<()> {
        let arrived = upload.written().size_bytes;
        if arrived != promised.size_bytes {
            let message = format!(
                "the header promised {} bytes, {arrived} arrived",
                promised.size_bytes
            );
            return Err(Error::invalid(message));
        }
        let noted = sources::Source {
            tenant: principal.tenant,
            digest: promised.digest.to_string(),
            size_bytes: arrived,
            created_at: self.clock.now(),
        };
        let _use = self.collecting.read().await;
        let written = self.store.write(principal.tenant, noted, |tx, noted| {
            Box::pin(async move { sources::put(tx, noted).await })
        });
        written.await?;
        upload.finish(Some(&promised.digest)).await?;
        Ok(())
    }

    /// Opens a blob: any of the tenant's with `read`; an agent only the input of a task that it
    /// holds.
    ///
    /// # Errors
    /// `forbidden`, `not_found`, and whatever the disk says.
    pub async fn open_blob(
        &self,
        principal: &Principal,
        task: Option<TaskId>,
        digest: &BlobDigest,
    ) -> Result<File> {
        self.may_get_blob(principal, task, digest)?;
        let opened = self.blobs.get(principal.tenant, digest).await?;
        opened.ok_or_else(|| Error::not_found("blob", digest))
    }

    fn may_get_blob(
        &self,
        principal: &Principal,
        task: Option<TaskId>,
        digest: &BlobDigest,
    ) -> Result<()> {
        let held = self.check_task_blob(principal, task, Scope::Read)?;
        let Some(call) = held else { return Ok(()) };
        match call.input.blob() {
            Some(input) if input.digest == *digest => Ok(()),
            _ => Err(Error::not_found("blob of this task", digest)),
        }
    }

    /// Refuses an answer that names a blob which is not there, or not of the size that it says.
    ///
    /// # Errors
    /// `agent_failed` with the blob's digest, and whatever the disk says.
    pub async fn check_blobs(&self, tenant: TenantId, answer: &Success) -> Result<()> {
        for blob in answer.blobs() {
            let wrong = match self.blobs.size(tenant, &blob.digest).await? {
                Some(size) if size == blob.size_bytes => continue,
                Some(size) => format!("which has {size} bytes, not {}", blob.size_bytes),
                None => "which nobody put".to_owned(),
            };
            let message = format!(
                "the agent's answer was refused: it names the blob {}, {wrong}",
                blob.digest
            );
            return Err(Error::new(Code::AgentFailed, message));
        }
        Ok(())
    }

    /// An agent may touch the blobs of a task that it holds, which is answered; a key needs the
    /// scope.
    fn check_task_blob(
        &self,
        principal: &Principal,
        task: Option<TaskId>,
        scope: Scope,
    ) -> Result<Option<Arc<Call>>> {
        if principal.scopes.allows(scope) {
            return Ok(None);
        }
        require(principal, Scope::Agent)?;
        let Some(id) = task else {
            let message = "an agent must name the task that the blob belongs to";
            return Err(Error::new(Code::Forbidden, message));
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

#[cfg(test)]
mod tests;
