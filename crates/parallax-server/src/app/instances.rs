//! Admitting agent instances, and what follows from their coming and going.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parallax_core::error::{Code, Error, Result};
use parallax_core::id::{AgentId, ReplicaId};
use parallax_core::instance::{Capability, Sdk};
use parallax_core::json::Json;
use parallax_core::key::{Principal, PrincipalKind};
use parallax_core::name::Name;
use parallax_core::replica::{Replica, Want};
use parallax_core::time::Timestamp;
use parallax_store::{agents, instances, replicas};
use serde_json::Value;
use tokio::sync::OwnedRwLockReadGuard;
use tokio::time::Instant;

use super::App;
use crate::dispatch::{Group, Peer, RegistryChange, SlotId};

/// Most capabilities, labels and inventory items that a Hello may carry.
const MAX_HELLO_ITEMS: usize = 1024;
/// Longest capability or label name.
const MAX_WORD: usize = 128;

/// What an instance says of itself when it connects.
#[derive(Debug, Clone, Default)]
pub struct Hello {
    pub agent_name: String,
    /// Of the process: a newer session with the same one supersedes the older.
    pub instance_uuid: String,
    pub sdk: Sdk,
    pub capabilities: Vec<Capability>,
    pub labels: BTreeMap<String, String>,
}

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
    pub async fn admit(&self, principal: &Principal, hello: Hello) -> Result<Admitted> {
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
            sdk: hello.sdk,
            capabilities: hello.capabilities,
            labels: hello.labels,
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
            self.announce(group, &peer, present, self.clock.now());
        }
        self.queue.notify_one();
    }

    /// Tells them that a session ended; `gone` when nothing of the instance is left.
    pub fn instance_left(&self, group: &Group, peer: &Peer, gone: bool) {
        self.announce(group, peer, !gone, self.clock.now());
    }

    /// `heard` is when the instance was last heard of, should it be gone.
    fn announce(&self, group: &Group, peer: &Peer, present: bool, heard: Timestamp) {
        if let Some((agent, replica)) = peer.hosted {
            self.note_absence(group, agent, replica, heard);
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
            // A lease that ran out began with the last sign of life.
            let silent = now.map_or(Duration::ZERO, |_| self.limits.lease_ttl);
            let heard = self.clock.now().before(silent);
            self.announce(group, &peer, false, heard);
        }
        self.queue.notify_one();
    }

    /// Since when the agent of a replica's present process is gone, that was connected.
    pub(crate) fn lost_at(&self, replica: &Replica) -> Option<Timestamp> {
        let at = self.directory.absent.since(replica.agent, replica.id)?;
        let started = replica.observed.started_at;
        // Before that, it was the agent of an earlier process.
        started.is_none_or(|started| started <= at).then_some(at)
    }

    fn note_absence(&self, group: &Group, agent: AgentId, replica: ReplicaId, heard: Timestamp) {
        if group.is_registered(replica) {
            self.directory.absent.came(agent, replica);
            return;
        }
        self.directory.absent.went(agent, replica, heard);
        // Should it stay away, that is trouble from then on.
        let lease = self.limits.lease_ttl;
        self.wake_after(lease, group.tenant, agent);
    }
}

fn check(hello: &Hello) -> Result<()> {
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
    let sdk = [&hello.sdk.name, &hello.sdk.version, &hello.sdk.language];
    for text in sdk {
        check_text("sdk", text)?;
    }
    for (name, value) in &hello.labels {
        check_word("a label's name", name)?;
        check_text(&format!("the label `{name}`"), value)?;
    }
    let mut seen = std::collections::HashSet::new();
    for capability in &hello.capabilities {
        check_capability(capability)?;
        if !seen.insert(capability.name.as_str()) {
            return Err(Error::invalid(format!(
                "capability `{}` is declared twice",
                capability.name
            )));
        }
    }
    Ok(())
}

fn check_capability(capability: &Capability) -> Result<()> {
    let name = &capability.name;
    check_word("a capability's name", name)?;
    check_text(
        &format!("the version of capability `{name}`"),
        &capability.version,
    )?;
    // A description may have lines.
    let description = capability.description.replace(['\n', '\r', '\t'], " ");
    check_text(
        &format!("the description of capability `{name}`"),
        &description,
    )?;
    let schema = capability.input_schema.as_ref();
    if schema.is_some_and(|json| !is_schema(json)) {
        let message = format!(
            "the input schema of capability `{name}` is no JSON Schema: that is an object or a boolean"
        );
        return Err(Error::invalid(message));
    }
    Ok(())
}

fn is_schema(json: &Json) -> bool {
    // Read whole, as the registry shows it: what is too deep for that is refused too.
    let value = serde_json::from_slice(json.as_bytes());
    matches!(value, Ok(Value::Object(_) | Value::Bool(_)))
}

fn check_word(what: &str, word: &str) -> Result<()> {
    if word.is_empty() || word.len() > MAX_WORD {
        return Err(Error::invalid(format!("{what} has 1 to {MAX_WORD} bytes")));
    }
    check_text(what, word)
}

/// These texts are shown to people as they are, on terminals too.
fn check_text(what: &str, text: &str) -> Result<()> {
    if text.chars().any(char::is_control) {
        let message = format!(
            "{} must not hold control characters: {text:?}",
            what.escape_debug()
        );
        return Err(Error::invalid(message));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
