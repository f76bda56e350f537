//! Hosts: joining, what they should run, what they report.

mod builds;
mod credentials;
mod desired;
mod facts;
mod observed;

use std::sync::Arc;
use std::time::Duration;

use parallax_core::blob::BlobDigest;
use parallax_core::error::{Code, Error, Result};
use parallax_core::event::Subject;
use parallax_core::host::{Contact, Host, HostFacts};
use parallax_core::id::{HostId, KeyId, TenantId};
use parallax_core::key::{ApiKey, Principal, PrincipalKind, Scope};
use parallax_core::name::Name;
use parallax_proto::v1;
use parallax_store::{Listed, Page, agents, events, hosts, keys};
use tokio::sync::mpsc;
use tonic::Status;

use super::events::event;
use super::{App, Receipt};
use crate::auth::require;
use crate::auth::token::{Secret, mint_key};
use crate::clock::random;
use crate::hosts::Connection;

pub use builds::build_ids;
pub use desired::HandedOut;

/// How long a join token waits to be used.
pub const JOIN_TOKEN_TTL: Duration = Duration::from_secs(3600);

impl App {
    /// Makes a single-use join token.
    ///
    /// # Errors
    /// `forbidden` without `admin`.
    pub async fn mint_join_token(
        &self,
        principal: &Principal,
        receipt: Receipt<ApiKey>,
    ) -> Result<Secret> {
        require(principal, Scope::Admin)?;
        let id = KeyId::new(self.clock.now(), random());
        let name = format!("join-{}", &id.to_string()[20..]);
        let name: Name = name.parse().map_err(Error::internal)?;
        let (key, secret) = self.host_key(principal, id, name, None);
        self.store_key(principal, &key, receipt).await?;
        Ok(secret)
    }

    /// Trades a join token for the host's own credential.
    ///
    /// # Errors
    /// `forbidden` for anything but an unused join token, `invalid_request` for a malformed name.
    pub async fn join_host(
        &self,
        principal: &Principal,
        name: &str,
        facts: v1::HostFacts,
    ) -> Result<(HostId, Secret)> {
        require(principal, Scope::Host)?;
        let PrincipalKind::Key(token) = principal.kind else {
            return Err(Error::new(
                Code::Forbidden,
                "this host has joined already; it may open its session",
            ));
        };
        let name: Name = name
            .parse()
            .map_err(|e| Error::invalid(format!("host_name: {e}")))?;
        let facts = facts::parse(facts)?;
        let now = self.clock.now();
        let tenant = principal.tenant;
        let used = self.store.write(tenant, (), move |tx, ()| {
            Box::pin(async move { keys::consume_single_use(tx, tenant, token, now).await })
        });
        if !used.await? {
            return Err(Error::new(
                Code::Forbidden,
                "this join token was used before; ask for another one",
            ));
        }
        self.register_host(principal, name, facts).await
    }

    /// Makes a host and its credential; a host of that name gets a new credential.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn register_host(
        &self,
        principal: &Principal,
        name: Name,
        facts: HostFacts,
    ) -> Result<(HostId, Secret)> {
        let now = self.clock.now();
        let fresh = Host {
            tenant: principal.tenant,
            id: HostId::new(now, random()),
            name: name.clone(),
            facts,
            epoch: 0,
            last_seen_at: now,
            created_at: now,
        };
        let id = self.store.write(principal.tenant, fresh, move |tx, fresh| {
            Box::pin(async move {
                if let Some(host) = hosts::by_name(tx, &fresh.name).await? {
                    return Ok::<_, Error>(host.id);
                }
                hosts::insert(tx, fresh).await?;
                events::append(
                    tx,
                    &event(
                        now,
                        Subject::Host,
                        &fresh.id,
                        "joined",
                        format!("host `{}` joined", fresh.name),
                    ),
                )
                .await?;
                Ok(fresh.id)
            })
        });
        let id = id.await?;
        let (_, secret) = self.mint_host_credential(principal, id).await?;
        Ok((id, secret))
    }

    fn host_key(
        &self,
        principal: &Principal,
        id: KeyId,
        name: Name,
        host: Option<HostId>,
    ) -> (ApiKey, Secret) {
        let secret = mint_key(id, random());
        let now = self.clock.now();
        let key = ApiKey {
            tenant: principal.tenant,
            id,
            name,
            hash: self.auth.hash_key(&secret),
            scopes: [Scope::Host].into_iter().collect(),
            groups: Vec::new(),
            host,
            single_use: host.is_none(),
            created_at: now,
            expires_at: match host {
                None => Some(now.plus(JOIN_TOKEN_TTL)),
                Some(_) => self.limits.host_credential_ttl.map(|ttl| now.plus(ttl)),
            },
            revoked_at: None,
            last_used_at: None,
        };
        (key, secret)
    }

    /// Checks a host's Hello, gives it its next epoch, and records what it found and observed.
    ///
    /// # Errors
    /// `not_found` for a host that was removed, `invalid_request` for a malformed Hello.
    pub async fn admit_host(
        &self,
        principal: &Principal,
        host: HostId,
        hello: v1::HostHello,
        frames: mpsc::Sender<std::result::Result<v1::HostDown, Status>>,
    ) -> Result<Arc<Connection>> {
        let facts = facts::parse(hello.facts.unwrap_or_default())?;
        let epoch = self.next_epoch(principal, host, facts).await?;
        let connection = Arc::new(Connection::new(principal.tenant, host, epoch, frames));
        // Reports have agents looked at again: what was built must be known to be gone by then.
        self.compare_builds(&connection, &hello.builds).await?;
        if let Some(observed) = hello.observed {
            self.observed(&connection, observed).await?;
        }
        for build in hello.builds {
            self.build_reported(&connection, build).await?;
        }
        Ok(connection)
    }

    async fn next_epoch(
        &self,
        principal: &Principal,
        host: HostId,
        facts: HostFacts,
    ) -> Result<u64> {
        let now = self.clock.now();
        let epoch = self.store.write(principal.tenant, facts, move |tx, facts| {
            Box::pin(async move {
                if hosts::get(tx, host).await?.is_none() {
                    return Err(Error::not_found("host", host));
                }
                hosts::set_facts(tx, host, facts, now).await?;
                let epoch = hosts::next_epoch(tx, host, now).await?;
                let message = format!("session {epoch}");
                let entry = event(now, Subject::Host, &host, "connected", message);
                events::append(tx, &entry).await?;
                Ok(epoch)
            })
        });
        epoch.await
    }

    /// Whether a host is there, or has time to come back.
    pub fn contact(&self, host: HostId) -> Contact {
        if self.hosts.is_connected(host) {
            return Contact::Connected;
        }
        let since = self.hosts.left_at(host).unwrap_or(self.started);
        match since.elapsed() < self.limits.lease_ttl {
            true => Contact::Awaited,
            false => Contact::Away,
        }
    }

    /// Whether this server was started so short a time ago that what was connected before may
    /// still come back.
    pub fn has_just_started(&self) -> bool {
        self.started.elapsed() < self.limits.lease_ttl
    }

    /// A host is there: everything that waits for one is looked at again.
    pub async fn host_joined(&self, connection: &Connection) {
        self.mark_tenant(connection.tenant).await;
    }

    /// A session took the place of one that had not ended. A host whose connection broke unnoticed
    /// looks like this, and so do two hosts with one credential: who reads the events can tell.
    pub async fn host_superseded(&self, connection: &Connection, older: u64) {
        let message = format!(
            "session {} took the place of session {older}, which had not ended; if two hosts use \
             one credential, join each with a token of its own (`parallax hosts token`)",
            connection.epoch
        );
        self.note(connection, "superseded", message).await;
    }

    /// A host's session ended. What it runs goes on; its logs are out of reach meanwhile.
    pub async fn host_left(&self, connection: &Connection) {
        self.hosts.log_streams.host_left(connection.host);
        let message = "its session ended".to_owned();
        self.note(connection, "disconnected", message).await;
        self.look_again_after_the_lease(connection.tenant);
        self.mark_tenant(connection.tenant).await;
    }

    async fn note(&self, connection: &Connection, kind: &str, message: String) {
        let host = connection.host;
        let entry = event(self.clock.now(), Subject::Host, &host, kind, message);
        let noted = self.store.write(connection.tenant, entry, |tx, entry| {
            Box::pin(async move { events::append(tx, entry).await })
        });
        if let Err(error) = noted.await {
            tracing::error!(error = &error as &dyn std::error::Error, %host, kind, "an event of a host's session is not kept");
        }
    }

    /// What is shown of an absent host's replicas is carried over for a lease, and not longer.
    fn look_again_after_the_lease(&self, tenant: TenantId) {
        let Some(app) = self.weak.upgrade() else {
            return;
        };
        self.tasks.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(app.limits.lease_ttl) => app.mark_tenant(tenant).await,
                () = app.shutdown.cancelled() => {}
            }
        });
    }

    async fn mark_tenant(&self, tenant: TenantId) {
        let listed = async {
            let mut tx = self.store.read(tenant).await?;
            agents::ids(&mut tx).await
        };
        match listed.await {
            Ok(ids) => ids.iter().for_each(|id| self.dirty.mark(tenant, *id)),
            // The reconciler's periodic look at everything finds them.
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot list agents"
            ),
        }
    }

    /// Notes a heartbeat.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn host_seen(&self, connection: &Connection) -> Result<()> {
        let (tenant, host, now) = (connection.tenant, connection.host, self.clock.now());
        let seen = self.store.write(tenant, (), move |tx, ()| {
            Box::pin(async move { hosts::touch_seen(tx, tenant, host, now).await })
        });
        Ok(seen.await?)
    }

    /// The tenant's hosts, by name.
    ///
    /// # Errors
    /// `forbidden` without `read`.
    pub async fn list_hosts(&self, principal: &Principal, page: &Page) -> Result<Listed<Host>> {
        require(principal, Scope::Read)?;
        let mut tx = self.store.read(principal.tenant).await?;
        Ok(hosts::list(&mut tx, page).await?)
    }

    /// Opens a source archive for a host that builds it.
    ///
    /// # Errors
    /// `not_found` unless one of the host's own builds needs it.
    pub async fn open_artifact(
        &self,
        principal: &Principal,
        host: HostId,
        digest: &str,
    ) -> Result<tokio::fs::File> {
        let mut tx = self.store.system_read().await?;
        let wanted = parallax_store::builds::list_active(&mut tx, host).await?;
        if !wanted
            .iter()
            .any(|build| build.tenant == principal.tenant && build.source_digest == digest)
        {
            return Err(Error::not_found("source for this host", digest));
        }
        drop(tx);
        let digest: BlobDigest = digest.parse().map_err(|e| Error::invalid(format!("{e}")))?;
        let found = self.blobs.get(principal.tenant, &digest).await?;
        found.ok_or_else(|| Error::not_found("source", digest.as_str()))
    }

    pub(crate) fn connection_of(&self, host: HostId) -> Result<Arc<Connection>> {
        self.hosts.get(host).ok_or_else(|| {
            Error::new(
                Code::HostUnavailable,
                "the host with this data is not connected; it can be read when the host is back",
            )
        })
    }
}

#[cfg(test)]
mod tests;
