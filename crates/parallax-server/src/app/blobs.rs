//! Large values of tasks.

use parallax_core::error::{Code, Error, Result};
use parallax_core::id::TaskId;
use parallax_core::key::{Principal, PrincipalKind, Scope};
use parallax_core::task::MAX_BLOB_BYTES;
use parallax_proto::v1;

use super::App;
use crate::auth::require;

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
        self.check_task_blob(principal, header.r#ref.as_ref(), Scope::Invoke)
    }

    /// Whether the caller may read a blob.
    ///
    /// # Errors
    /// `forbidden`, `invalid_request`.
    pub fn may_get_blob(&self, principal: &Principal, request: &v1::GetBlobRequest) -> Result<()> {
        self.check_task_blob(principal, request.r#ref.as_ref(), Scope::Read)
    }

    /// An agent may touch the blobs of a task that it holds; a key needs the scope.
    fn check_task_blob(
        &self,
        principal: &Principal,
        task: Option<&v1::TaskRef>,
        scope: Scope,
    ) -> Result<()> {
        if principal.scopes.allows(scope) {
            return Ok(());
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
            .map(drop)
    }
}
