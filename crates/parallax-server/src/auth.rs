//! From a presented credential to a [`Principal`].
//!
//! Keys are looked up in the database once and then kept: one server owns the database, so that
//! every change of a key passes through here ([`Authenticator::forget`]).

pub mod bootstrap;
pub mod token;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parallax_core::error::{Code, Error, Result};
use parallax_core::id::{KeyId, ReplicaId, TenantId};
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
    kept: RwLock<HashMap<KeyId, Arc<Kept>>>,
    /// When the newest credential of each hosted agent's replica expires.
    newest: RwLock<HashMap<ReplicaId, Timestamp>>,
    changes: watch::Sender<u64>,
}

/// A key as it was read, and when it was used since.
struct Kept {
    key: ApiKey,
    /// Unix microseconds; 0 before the first use.
    used: AtomicI64,
    /// The use that the database knows of.
    noted: AtomicI64,
}

impl Kept {
    fn new(key: ApiKey) -> Self {
        let last = key.last_used_at.map_or(0, Timestamp::unix_micros);
        Self {
            key,
            used: AtomicI64::new(last),
            noted: AtomicI64::new(last),
        }
    }
}

impl Authenticator {
    #[must_use]
    pub fn new(store: Store, clock: Clock, pepper: Pepper) -> Self {
        Self {
            store,
            clock,
            pepper,
            kept: RwLock::default(),
            newest: RwLock::default(),
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
                let kept = self.key(id).await?.ok_or_else(unknown)?;
                if !self.pepper.verify(KEY_PURPOSE, &secret, &kept.key.hash) {
                    return Err(unknown());
                }
                let now = self.clock.now();
                check_state(&kept.key, now)?;
                kept.used.store(now.unix_micros(), Ordering::Relaxed);
                Ok(principal_of(&kept.key))
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
        if self.end_of(principal).is_some_and(|end| end <= now) {
            return Err(expired());
        }
        match principal.key_id() {
            Some(id) => check_state(&self.key(id).await?.ok_or_else(unknown)?.key, now),
            None => Ok(()),
        }
    }

    /// When what a credential has opened must end. A hosted agent's streams go on as long as its
    /// replica is given new credentials: it reads the newest at its next connect.
    fn end_of(&self, principal: &Principal) -> Option<Timestamp> {
        let own = principal.expires_at?;
        let newest = match &principal.kind {
            PrincipalKind::Replica { replica, .. } => self.newest.read().get(replica).copied(),
            _ => None,
        };
        Some(newest.map_or(own, |newest| newest.max(own)))
    }

    /// Returns when the credential expires, as far as is known now; never, where it has no end.
    pub fn expiry(&self, principal: &Principal) -> impl Future<Output = ()> + use<> {
        let left = self
            .end_of(principal)
            .map(|end| end.since(self.clock.now()));
        async move {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Makes a hosted agent's credential; streams that an earlier one has opened go on with it.
    #[must_use]
    pub fn mint_replica(&self, claims: &ReplicaClaims) -> token::Secret {
        let now = self.clock.now();
        let mut newest = self.newest.write();
        newest.retain(|_, end| *end > now);
        newest.insert(claims.replica, claims.expires_at);
        drop(newest);
        token::mint_replica(&self.pepper, claims)
    }

    /// The keyed hash under which a key's secret is stored.
    #[must_use]
    pub fn hash_key(&self, key: &token::Secret) -> Vec<u8> {
        self.pepper.hash(KEY_PURPOSE, &token::secret_part(key))
    }

    /// Forgets what is known of a key, and has every open stream checked again.
    pub fn forget(&self, key: KeyId) {
        let mut kept = self.kept.write();
        kept.remove(&key);
        self.changes.send_modify(|n| *n += 1);
    }

    /// Writes down when keys were used last: those whose last use is not in the database yet.
    ///
    /// # Errors
    /// Whatever the store says; the next call tries again.
    pub async fn note_uses(&self) -> Result<()> {
        let mut unnoted: BTreeMap<TenantId, Vec<(Arc<Kept>, i64)>> = BTreeMap::new();
        for kept in self.kept.read().values() {
            let used = kept.used.load(Ordering::Relaxed);
            if used != kept.noted.load(Ordering::Relaxed) {
                let of_tenant = unnoted.entry(kept.key.tenant).or_default();
                of_tenant.push((Arc::clone(kept), used));
            }
        }
        for (tenant, uses) in unnoted {
            let written = self.store.write(tenant, uses, move |tx, uses| {
                Box::pin(async move {
                    for (kept, used) in uses {
                        let at = Timestamp::from_unix_micros(*used);
                        keys::touch_last_used(tx, tenant, kept.key.id, at).await?;
                    }
                    Ok::<_, Error>(uses.clone())
                })
            });
            for (kept, used) in written.await? {
                kept.noted.store(used, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Changes whenever open streams must be checked again.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn key(&self, id: KeyId) -> Result<Option<Arc<Kept>>> {
        if let Some(key) = self.kept.read().get(&id) {
            return Ok(Some(Arc::clone(key)));
        }
        let before = *self.changes.borrow();
        let mut tx = self.store.system_read().await?;
        let found = keys::get(&mut tx, id).await?;
        drop(tx);
        Ok(found.map(|key| self.keep(key, before)))
    }

    /// Keeps a key that was read when `changes` stood at `before`, unless some key was changed
    /// since: this might be the one, as it was before it was revoked.
    fn keep(&self, key: ApiKey, before: u64) -> Arc<Kept> {
        let fresh = Arc::new(Kept::new(key));
        let mut kept = self.kept.write();
        // A join token is used once; keeping it would let it in twice.
        if *self.changes.borrow() == before && !fresh.key.single_use {
            if kept.len() >= MOST_KEPT {
                kept.clear();
            }
            kept.insert(fresh.key.id, Arc::clone(&fresh));
        }
        fresh
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
        KeyState::Revoked if key.single_use => Err(Error::new(
            Code::Unauthenticated,
            "this join token was used before; it lets one host in, once",
        )),
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

#[cfg(test)]
mod tests;
