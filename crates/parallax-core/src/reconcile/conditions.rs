//! What a reader of a status should know beside it: above all, what of it was not seen just now.

use std::collections::BTreeMap;

use super::{HostEvidence, Snapshot};
use crate::host::Contact;
use crate::placement::Unschedulable;
use crate::replica::Want;
use crate::status::{Condition, ReplicaEvidence};

/// The conditions of an agent that do not hold.
pub(super) fn conditions(
    snapshot: &Snapshot,
    unschedulable: Option<&Unschedulable>,
) -> Vec<Condition> {
    let mut broken = Vec::new();
    let mut say = |kind: &str, message: String| {
        if !message.is_empty() {
            broken.push(Condition {
                kind: kind.to_owned(),
                holds: false,
                message,
            });
        }
    };
    say("HostConnected", unheard_hosts(snapshot, unschedulable));
    say("AgentConnected", unheard_agents(snapshot));
    let unsafe_host = wanted(snapshot).any(|e| e.replica.observed.isolation.starts_with("none"));
    if unsafe_host {
        let message = "a host runs this agent without isolation (--unsafe-no-isolation)";
        say("Isolated", message.to_owned());
    }
    broken
}

/// Since when the hosts of wanted replicas are away, of those that stayed away.
pub(super) fn away(snapshot: &Snapshot) -> String {
    let words: Vec<String> = hosts_of(snapshot)
        .into_keys()
        .filter(|(_, absence)| *absence == Absence::Away)
        .map(|(name, _)| since_when(snapshot, &name))
        .collect();
    words.join("; ")
}

fn since_when(snapshot: &Snapshot, name: &str) -> String {
    let mut hosts = snapshot.hosts.iter().map(|known| &known.host);
    match hosts.find(|host| host.name.as_str() == name) {
        Some(host) => format!(
            "host `{name}` was last heard of at {}; what it runs may go on there",
            host.last_seen_at
        ),
        None => format!("host `{name}` is not known any more"),
    }
}

/// [`Contact`] of those that are not connected, in an order for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Absence {
    Away,
    Left,
    Unheard,
}

impl Absence {
    /// `None` of a host that is connected.
    fn of(known: &HostEvidence) -> Option<Self> {
        match known.contact {
            Contact::Connected => None,
            Contact::Away => Some(Self::Away),
            Contact::Awaited if known.heard => Some(Self::Left),
            Contact::Awaited => Some(Self::Unheard),
        }
    }
}

/// How many wanted replicas are on each host that is not connected, by its name.
fn hosts_of(snapshot: &Snapshot) -> BTreeMap<(String, Absence), usize> {
    let mut hosts = BTreeMap::new();
    for evidence in wanted(snapshot) {
        let id = evidence.replica.host;
        let known = snapshot.hosts.iter().find(|known| known.host.id == id);
        let (name, absence) = match known {
            Some(known) => (known.host.name.to_string(), Absence::of(known)),
            None => (id.to_string(), Some(Absence::Away)),
        };
        if let Some(absence) = absence {
            *hosts.entry((name, absence)).or_insert(0) += 1;
        }
    }
    hosts
}

fn unheard_hosts(snapshot: &Snapshot, unschedulable: Option<&Unschedulable>) -> String {
    let mut words: Vec<String> = hosts_of(snapshot)
        .into_iter()
        .map(|((name, absence), replicas)| {
            let what = match absence {
                Absence::Unheard => {
                    format!("host `{name}` has not been heard since this server was started")
                }
                Absence::Left => format!("host `{name}` lost its connection a moment ago"),
                Absence::Away => since_when(snapshot, &name),
            };
            let of = match replicas {
                1 => "1 replica".to_owned(),
                n => format!("{n} replicas"),
            };
            format!("{what}; what is shown of {of} is what was last observed")
        })
        .collect();
    if words.is_empty()
        && let Some(nowhere) = unschedulable.filter(|nowhere| nowhere.awaited)
    {
        words.push(nowhere.words.clone());
    }
    words.join("; ")
}

/// Agents that may still come back to a server that was just started, on hosts that have.
fn unheard_agents(snapshot: &Snapshot) -> String {
    let is_connected = |evidence: &ReplicaEvidence| {
        let mut hosts = snapshot.hosts.iter();
        hosts.any(|known| {
            known.host.id == evidence.replica.host && known.contact == Contact::Connected
        })
    };
    let unheard = snapshot
        .replicas
        .iter()
        .filter(|e| e.is_unknown() && is_connected(e))
        .count();
    match unheard {
        0 => String::new(),
        1 => "1 replica runs, and its agent has not been heard since this server was started"
            .to_owned(),
        n => format!(
            "{n} replicas run, and their agents have not been heard since this server was started"
        ),
    }
}

fn wanted(snapshot: &Snapshot) -> impl Iterator<Item = &ReplicaEvidence> {
    snapshot
        .replicas
        .iter()
        .filter(|e| e.replica.want == Want::Run && !e.replica.observed.phase.is_over())
}
