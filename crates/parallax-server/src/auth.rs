//! From a presented credential to a [`Principal`].
//!
//! Keys are looked up in the database once and then kept: one server owns the database, so that
//! every change of a key passes through here ([`Authenticator::forget`]).

pub mod bootstrap;
pub mod token;

use std::collections::HashMap;
use std::sync::Arc;

use parallax_core::error::{Code, Error, Result};
use parallax_core::id::KeyId;
use parallax_core::key::{ApiKey, KeyState, Principal, PrincipalKind, Scope};
use parallax_core::time::Timestamp;
use parallax_store::{Store, keys};
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::clock::Clock;
use token::{KEY_PURPOSE, Pepper, Presented, ReplicaClaims};

/// Keys that are kept; beyond this all are forgotten and looked up again.
const MOST_KEPT: usize = 10_000;

/// Checks credentials.
pub struct Authenticator {
    store: Store,
    clock: Clock,
    pepper: Pepper,
    kept: RwLock<HashMap<KeyId, Arc<ApiKey>>>,
    changes: watch::Sender<u64>,
}

impl Authenticator {
    #[must_use]
    pub fn new(store: Store, clock: Clock, pepper: Pepper) -> Self {
        Self {
            store,
            clock,
            pepper,
            kept: RwLock::default(),
            changes: watch::channel(0).0,
        }
    }

    /// Who presents `text`.
    ///
    /// # Errors
    /// `unauthenticated` for anything unknown or revoked, `credential_expired` for what was good once.
    pub async fn authenticate(&self, text: &str) -> Result<Principal> {
        match token::parse(text) {
            Some(Presented::Key { id, secret }) => {
                let key = self.key(id).await?.ok_or_else(unknown)?;
                if !self.pepper.verify(KEY_PURPOSE, &secret, &key.hash) {
                    return Err(unknown());
                }
                check_state(&key, self.clock.now())?;
                Ok(principal_of(&key))
            }
            Some(Presented::Replica {
                claims,
                signed,
                mac,
            }) => {
                if !token::is_signed(&self.pepper, &signed, &mac) {
                    return Err(unknown());
                }
                if claims.expires_at <= self.clock.now() {
                    return Err(expired());
                }
                Ok(principal_of_replica(claims))
            }
            None => Err(unknown()),
        }
    }

    /// Whether a credential that opened a stream earlier would still open it.
    ///
    /// # Errors
    /// As [`Self::authenticate`].
    pub async fn recheck(&self, principal: &Principal) -> Result<()> {
        let now = self.clock.now();
        if principal.expires_at.is_some_and(|end| end <= now) {
            return Err(expired());
        }
        match principal.key_id() {
            Some(id) => check_state(&*self.key(id).await?.ok_or_else(unknown)?, now),
            None => Ok(()),
        }
    }

    /// Makes a hosted agent's credential.
    #[must_use]
    pub fn mint_replica(&self, claims: &ReplicaClaims) -> token::Secret {
        token::mint_replica(&self.pepper, claims)
    }

    /// The keyed hash under which a key's secret is stored.
    #[must_use]
    pub fn hash_key(&self, key: &token::Secret) -> Vec<u8> {
        self.pepper.hash(KEY_PURPOSE, &token::secret_part(key))
    }

    /// Forgets what is known of a key, and has every open stream checked again.
    pub fn forget(&self, key: KeyId) {
        self.kept.write().remove(&key);
        self.changes.send_modify(|n| *n += 1);
    }

    /// Changes whenever open streams must be checked again.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn key(&self, id: KeyId) -> Result<Option<Arc<ApiKey>>> {
        if let Some(key) = self.kept.read().get(&id) {
            return Ok(Some(Arc::clone(key)));
        }
        let mut tx = self.store.system_read().await?;
        let Some(key) = keys::get(&mut tx, id).await? else {
            return Ok(None);
        };
        let key = Arc::new(key);
        let mut kept = self.kept.write();
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        // A join token is used once; keeping it would let it in twice.
        if !key.single_use {
            kept.insert(id, Arc::clone(&key));
        }
        Ok(Some(key))
    }
}

/// Refuses a principal that lacks a scope.
///
/// # Errors
/// `forbidden`, naming the scope.
pub fn require(principal: &Principal, scope: Scope) -> Result<()> {
    if principal.scopes.allows(scope) {
        return Ok(());
    }
    Err(Error::new(
        Code::Forbidden,
        format!(
            "credential `{}` lacks the scope `{scope}` (it has: {})",
            principal.name, principal.scopes
        ),
    ))
}

fn check_state(key: &ApiKey, now: Timestamp) -> Result<()> {
    match key.state(now) {
        KeyState::Active => Ok(()),
        KeyState::Expired => Err(expired()),
        KeyState::Revoked => Err(Error::new(Code::Unauthenticated, "the API key was revoked")),
    }
}

fn principal_of(key: &ApiKey) -> Principal {
    Principal {
        tenant: key.tenant,
        kind: match key.host {
            Some(host) => PrincipalKind::Host { key: key.id, host },
            None => PrincipalKind::Key(key.id),
        },
        name: key.name.to_string(),
        scopes: key.scopes,
        groups: key.groups.clone(),
        expires_at: key.expires_at,
    }
}

fn principal_of_replica(claims: ReplicaClaims) -> Principal {
    Principal {
        tenant: claims.tenant,
        name: format!("replica:{}", claims.replica),
        kind: PrincipalKind::Replica {
            agent: claims.agent,
            agent_name: claims.agent_name,
            replica: claims.replica,
        },
        scopes: [Scope::Agent].into_iter().collect(),
        groups: Vec::new(),
        expires_at: Some(claims.expires_at),
    }
}

fn unknown() -> Error {
    Error::new(
        Code::Unauthenticated,
        "the credential is not known here; pass an API key as `Authorization: Bearer plx_key_…`",
    )
}

fn expired() -> Error {
    Error::new(
        Code::CredentialExpired,
        "the credential has expired; ask for a new one",
    )
}
