//! Admitting agent instances, and what follows from their coming and going.

use std::sync::Arc;

use parallax_core::error::{Code, Error, Result};
use parallax_core::key::{Principal, PrincipalKind};
use parallax_core::name::Name;
use parallax_core::replica::Want;
use parallax_proto::v1;
use parallax_store::{agents, instances, replicas};
use tokio::sync::OwnedRwLockReadGuard;
use tokio::time::Instant;

use super::App;
use crate::dispatch::{Group, Peer, RegistryChange, SlotId};

/// Most capabilities, labels and inventory items that a Hello may carry.
const MAX_HELLO_ITEMS: usize = 1024;
/// Longest capability or label name.
const MAX_WORD: usize = 128;

/// An instance that may join.
pub struct Admitted {
    pub group: Arc<Group>,
    pub peer: Peer,
    pub lease_epoch: u64,
    /// It is being replaced: it may finish what it has and gets nothing new.
    pub draining: bool,
    /// An external agent's claim on its name, to be held until it has joined: meanwhile no
    /// deployment takes the name.
    pub claim: Option<OwnedRwLockReadGuard<()>>,
}

impl App {
    /// Checks a Hello against the credential and gives the instance its next epoch.
    ///
    /// # Errors
    /// `forbidden` when the credential may not claim the name, `invalid_request` for a malformed
    /// Hello, `not_found` when the hosted replica is no longer wanted.
    pub async fn admit(&self, principal: &Principal, hello: v1::Hello) -> Result<Admitted> {
        let name: Name = hello
            .agent_name
            .parse()
            .map_err(|e| Error::invalid(format!("agent_name: {e}")))?;
        check(&hello)?;
        let mut claim = None;
        let (hosted, draining) = match &principal.kind {
            PrincipalKind::Replica {
                agent,
                agent_name,
                replica,
            } => {
                if *agent_name != name {
                    let message =
                        format!("this credential speaks for agent `{agent_name}`, not `{name}`");
                    return Err(Error::new(Code::Forbidden, message));
                }
                let mut tx = self.store.read(principal.tenant).await?;
                let row = replicas::get(&mut tx, *replica).await?;
                // Of a replica that is over no process is left: whoever this is, it is not it.
                let row = row.filter(|r| !r.observed.phase.is_over());
                let row = row.ok_or_else(|| Error::not_found("replica", replica))?;
                (Some((*agent, *replica)), row.want == Want::Stop)
            }
            PrincipalKind::Key(_) | PrincipalKind::Host { .. } => {
                claim = Some(Arc::clone(&self.naming).read_owned().await);
                let mut tx = self.store.read(principal.tenant).await?;
                if agents::by_name(&mut tx, &name).await?.is_some() {
                    let message =
                        format!("`{name}` is a hosted agent; an external one needs another name");
                    return Err(Error::new(Code::Forbidden, message));
                }
                (None, false)
            }
        };
        let now = self.clock.now();
        let lease_epoch = self
            .store
            .write(
                principal.tenant,
                hello.instance_uuid.clone(),
                move |tx, uuid| Box::pin(async move { instances::next_epoch(tx, uuid, now).await }),
            )
            .await?;
        let peer = Peer {
            uuid: hello.instance_uuid,
            hosted,
            key: match principal.kind {
                PrincipalKind::Key(key) => Some(key),
                PrincipalKind::Replica { .. } | PrincipalKind::Host { .. } => None,
            },
            sdk: hello.sdk.unwrap_or_default(),
            capabilities: hello.capabilities,
            labels: hello.labels.into_iter().collect(),
        };
        Ok(Admitted {
            group: self.directory.find_or_create(principal.tenant, &name),
            peer,
            lease_epoch,
            draining,
            claim,
        })
    }

    /// Tells watchers and the reconciler that an instance joined or changed.
    pub fn instance_changed(&self, group: &Group, slot: SlotId, present: bool) {
        if let Some(peer) = group.peer(slot) {
            self.announce(group, &peer, present);
        }
        self.queue.notify_one();
    }

    /// Tells them that a session ended; `gone` when nothing of the instance is left.
    pub fn instance_left(&self, group: &Group, peer: &Peer, gone: bool) {
        self.announce(group, peer, !gone);
    }

    fn announce(&self, group: &Group, peer: &Peer, present: bool) {
        if let Some((agent, _)) = peer.hosted {
            self.dirty.mark(group.tenant, agent);
        }
        self.directory.announce(RegistryChange {
            tenant: group.tenant,
            agent: group.name.clone(),
            instance_uuid: peer.uuid.clone(),
            replica: peer.hosted.map(|(_, replica)| replica),
            present,
        });
    }

    /// Ends the lease of an instance whose process was seen to end, or (with `now`) whose lease
    /// had run out by then.
    pub fn instance_lost(&self, group: &Group, slot: SlotId, now: Option<Instant>) {
        if let Some(peer) = group.expire(slot, now) {
            self.announce(group, &peer, false);
        }
        self.queue.notify_one();
    }
}

fn check(hello: &v1::Hello) -> Result<()> {
    let uuid = &hello.instance_uuid;
    if uuid.len() != 36 || !uuid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
        return Err(Error::invalid(
            "instance_uuid must be a UUID such as 0192f0c4-7d5e-7a10-8000-000000000001",
        ));
    }
    let many = hello.capabilities.len().max(hello.labels.len());
    if many > MAX_HELLO_ITEMS {
        return Err(Error::new(
            Code::TooLarge,
            format!("a Hello may carry {MAX_HELLO_ITEMS} capabilities and labels"),
        ));
    }
    let mut seen = std::collections::HashSet::new();
    for capability in &hello.capabilities {
        if capability.name.is_empty() || capability.name.len() > MAX_WORD {
            return Err(Error::invalid(format!(
                "a capability's name has 1 to {MAX_WORD} bytes"
            )));
        }
        if !seen.insert(capability.name.as_str()) {
            return Err(Error::invalid(format!(
                "capability `{}` is declared twice",
                capability.name
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
