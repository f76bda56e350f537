//! Which host gets a replica.

use crate::host::{Contact, Host, IsolationMeans};
use crate::id::HostId;
use crate::manifest::{IsolationTier, Resources};
use crate::quantity::MemoryBytes;

/// A host as the scheduler sees it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    pub host: &'a Host,
    pub contact: Contact,
    pub load: Load,
}

/// What is reserved on a host, over all tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    pub replicas: u32,
    pub cpu_millis: u64,
    pub memory_bytes: u64,
}

impl Load {
    /// Adds a replica that reserves `resources`.
    pub fn add(&mut self, resources: &Resources) {
        self.replicas += 1;
        self.cpu_millis += resources.cpu.map_or(0, |cpu| cpu.get());
        self.memory_bytes += resources.memory.map_or(0, |memory| memory.get());
    }
}

/// Chooses the connected host with the fewest replicas that satisfies the demand.
///
/// # Errors
/// Says of each host why it was passed over, in words for the agent's status.
pub fn choose(
    candidates: &[Candidate<'_>],
    demand: &Resources,
    isolation: IsolationTier,
) -> Result<HostId, Unschedulable> {
    let mut refusals = Vec::new();
    let mut best: Option<&Candidate<'_>> = None;
    let mut awaited = false;
    for candidate in candidates {
        let name = &candidate.host.name;
        match refusal(candidate, demand, isolation) {
            Some(why) => refusals.push(format!("{name}: {why}")),
            None if candidate.contact == Contact::Awaited => {
                awaited = true;
                refusals.push(format!(
                    "{name}: not heard since a moment ago, and expected back"
                ));
            }
            None if best.is_none_or(|b| candidate.load.replicas < b.load.replicas) => {
                best = Some(candidate)
            }
            None => {}
        }
    }
    if let Some(candidate) = best {
        return Ok(candidate.host.id);
    }
    let isolation_only = !refusals.is_empty()
        && candidates
            .iter()
            .all(|c| c.contact == Contact::Connected && lacks_isolation(c, isolation));
    Err(Unschedulable {
        isolation_only,
        awaited,
        words: if refusals.is_empty() {
            "no host has joined; start one with `parallax host`".to_owned()
        } else {
            refusals.join("; ")
        },
    })
}

/// Why no host can take the replica.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct Unschedulable {
    pub words: String,
    /// Every host was refused for its isolation alone.
    pub isolation_only: bool,
    /// A host that would do was here a moment ago: whether it can be placed is not known yet.
    pub awaited: bool,
}

fn lacks_isolation(candidate: &Candidate<'_>, isolation: IsolationTier) -> bool {
    let facts = &candidate.host.facts;
    let unprotected = facts.isolation == IsolationMeans::None && !facts.unsafe_no_isolation;
    let has_tier = isolation == IsolationTier::Process || facts.tiers.contains(&isolation);
    unprotected || !has_tier
}

fn refusal(
    candidate: &Candidate<'_>,
    demand: &Resources,
    isolation: IsolationTier,
) -> Option<String> {
    let facts = &candidate.host.facts;
    if candidate.contact == Contact::Away {
        let last = candidate.host.last_seen_at;
        return Some(format!("not connected, last heard of at {last}"));
    }
    if lacks_isolation(candidate, isolation) {
        return Some(format!("cannot give isolation `{isolation}`"));
    }
    if candidate.load.replicas >= facts.max_replicas {
        return Some(format!("is full ({} replicas)", facts.max_replicas));
    }
    let cpu = demand.cpu.map_or(0, |cpu| cpu.get());
    if candidate.load.cpu_millis.saturating_add(cpu) > facts.cpu.get() {
        return Some(format!(
            "has too little CPU left ({} of {} reserved)",
            candidate.load.cpu_millis, facts.cpu
        ));
    }
    let memory = demand.memory.map_or(0, |memory| memory.get());
    if candidate.load.memory_bytes.saturating_add(memory) > facts.memory.get() {
        let reserved = MemoryBytes::new(candidate.load.memory_bytes);
        return Some(format!(
            "has too little memory left ({} of {} reserved)",
            reserved.rounded(),
            facts.memory.rounded()
        ));
    }
    None
}
