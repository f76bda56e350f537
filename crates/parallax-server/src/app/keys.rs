//! API keys.

use std::time::Duration;

use parallax_core::error::{Code, Error, Result};
use parallax_core::event::Subject;
use parallax_core::id::KeyId;
use parallax_core::key::{ApiKey, Principal, Scope, Scopes};
use parallax_core::name::Name;
use parallax_store::{Listed, Page, events, keys};

use super::events::event;
use super::{App, Receipt};
use crate::auth::require;
use crate::auth::token::{Secret, mint_key};
use crate::clock::random;

/// What a new key should be.
#[derive(Debug, Clone)]
pub struct NewKey {
    pub name: Name,
    pub scopes: Scopes,
    pub groups: Vec<Name>,
    /// `None`: does not expire.
    pub ttl: Option<Duration>,
}

impl App {
    /// Makes a key. Its secret is returned this once and not kept.
    ///
    /// # Errors
    /// `forbidden` without `admin`, `invalid_request` without scopes.
    pub async fn create_key(
        &self,
        principal: &Principal,
        wanted: NewKey,
        receipt: Receipt<ApiKey>,
    ) -> Result<(ApiKey, Secret)> {
        require(principal, Scope::Admin)?;
        if wanted.scopes.is_empty() {
            return Err(Error::invalid("a key needs at least one scope"));
        }
        if wanted.scopes.contains(Scope::Host) {
            return Err(Error::invalid(
                "hosts join with a token: `parallax hosts token`",
            ));
        }
        let now = self.clock.now();
        let id = KeyId::new(now, random());
        let secret = mint_key(id, random());
        let key = ApiKey {
            tenant: principal.tenant,
            id,
            name: wanted.name,
            hash: self.auth.hash_key(&secret),
            scopes: wanted.scopes,
            groups: wanted.groups,
            host: None,
            single_use: false,
            created_at: now,
            expires_at: wanted.ttl.map(|ttl| now.plus(ttl)),
            revoked_at: None,
            last_used_at: None,
        };
        self.store_key(principal, &key, receipt).await?;
        Ok((key, secret))
    }

    pub(crate) async fn store_key(
        &self,
        principal: &Principal,
        key: &ApiKey,
        receipt: Receipt<ApiKey>,
    ) -> Result<()> {
        let now = self.clock.now();
        let given = (key.clone(), principal.name.clone(), receipt);
        let stored = self
            .store
            .write(principal.tenant, given, move |tx, (key, by, receipt)| {
                Box::pin(async move {
                    keys::insert(tx, key).await?;
                    let message = format!("key `{}` ({}) was made by {by}", key.name, key.scopes);
                    events::append(tx, &event(now, Subject::Key, &key.id, "created", message))
                        .await?;
                    receipt.keep(tx, key).await
                })
            });
        stored.await
    }

    /// The tenant's keys, revoked ones too; never their secrets.
    ///
    /// # Errors
    /// `forbidden` without `admin`.
    pub async fn list_keys(&self, principal: &Principal, page: &Page) -> Result<Listed<ApiKey>> {
        require(principal, Scope::Admin)?;
        let mut tx = self.store.read(principal.tenant).await?;
        Ok(keys::list(&mut tx, page).await?)
    }

    /// Revokes a key: it opens nothing from now on, and what it has open ends within seconds.
    ///
    /// # Errors
    /// `not_found`; `conflict` for the key that asks, which would lock its owner out.
    pub async fn revoke_key(
        &self,
        principal: &Principal,
        id: KeyId,
        receipt: Receipt<()>,
    ) -> Result<()> {
        require(principal, Scope::Admin)?;
        if principal.key_id() == Some(id) {
            return Err(Error::new(
                Code::Conflict,
                "a key cannot revoke itself; use another administration key",
            ));
        }
        let now = self.clock.now();
        let given = (principal.name.clone(), receipt);
        let revoked = self
            .store
            .write(principal.tenant, given, move |tx, (by, receipt)| {
                Box::pin(async move {
                    keys::revoke(tx, id, now).await?;
                    let message = format!("revoked by {by}");
                    events::append(tx, &event(now, Subject::Key, &id, "revoked", message)).await?;
                    receipt.keep(tx, &()).await
                })
            });
        revoked.await?;
        self.auth.forget(id);
        Ok(())
    }
}
