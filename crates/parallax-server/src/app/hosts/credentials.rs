//! Credentials of hosts: each host's own, and their renewal.

use parallax_core::error::{Error, Result};
use parallax_core::id::{HostId, KeyId};
use parallax_core::key::{ApiKey, Principal};
use parallax_proto::v1;

use crate::app::{App, Receipt};
use crate::auth::token::Secret;
use crate::clock::random;

impl App {
    /// Makes a credential for a host. Earlier ones stay good until they expire.
    ///
    /// # Errors
    /// Whatever the store says.
    pub(super) async fn mint_host_credential(
        &self,
        principal: &Principal,
        host: HostId,
    ) -> Result<(ApiKey, Secret)> {
        let id = KeyId::new(self.clock.now(), random());
        let name = format!("host-{}", &id.to_string()[20..])
            .parse()
            .map_err(Error::internal)?;
        let (key, secret) = self.host_key(principal, id, name, Some(host));
        self.store_key(principal, &key, Receipt::none()).await?;
        Ok((key, secret))
    }

    /// The next credential of a host whose own, as which it presented itself, is past half of its
    /// life; `None` as long as that one will do.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn renewed_host_credential(
        &self,
        principal: &Principal,
        host: HostId,
    ) -> Result<Option<v1::CredentialUpdate>> {
        let Some(expires_at) = principal.expires_at else {
            return Ok(None);
        };
        let left = expires_at.since(self.clock.now());
        // One that has an end although none is asked for any more is replaced at once.
        let ttl = self.limits.host_credential_ttl;
        if ttl.is_some_and(|ttl| left > ttl / 2) {
            return Ok(None);
        }
        let (key, secret) = self.mint_host_credential(principal, host).await?;
        Ok(Some(v1::CredentialUpdate {
            replica_id: String::new(),
            token: secret.reveal().to_owned(),
            token_expires_unix_ms: key.expires_at.map_or(0, |at| at.unix_millis()),
        }))
    }
}
