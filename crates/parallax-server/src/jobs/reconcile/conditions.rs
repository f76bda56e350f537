//! What a reader of a status should know beside it: above all, what of it was not seen just now.

use std::collections::BTreeMap;

use parallax_core::host::{Contact, Host};
use parallax_core::placement::Unschedulable;
use parallax_core::replica::Want;
use parallax_core::status::{Condition, ReplicaEvidence};

use super::snapshot::Snapshot;
use crate::app::App;

/// The conditions of an agent that do not hold.
pub(super) fn conditions(
    app: &App,
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
    say("HostConnected", unheard_hosts(app, snapshot, unschedulable));
    say("AgentConnected", unheard_agents(app, snapshot));
    let unsafe_host = wanted(snapshot).any(|e| e.replica.observed.isolation.starts_with("none"));
    if unsafe_host {
        let message = "a host runs this agent without isolation (--unsafe-no-isolation)";
        say("Isolated", message.to_owned());
    }
    broken
}

/// Since when the hosts of wanted replicas are away, of those that stayed away.
pub(super) fn away(app: &App, snapshot: &Snapshot) -> String {
    let hosts = hosts_of(app, snapshot).into_keys();
    let words: Vec<String> = hosts
        .filter(|(_, contact)| *contact == Sorted::Away)
        .map(|(name, _)| absence(snapshot, &name))
        .collect();
    words.join("; ")
}

fn absence(snapshot: &Snapshot, name: &str) -> String {
    let host = snapshot
        .hosts
        .iter()
        .find(|host| host.name.as_str() == name);
    match host {
        Some(Host { last_seen_at, .. }) => format!(
            "host `{name}` was last heard of at {last_seen_at}; what it runs may go on there"
        ),
        None => format!("host `{name}` is not known any more"),
    }
}

/// [`Contact`] of those that are not connected, in an order for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sorted {
    Away,
    Left,
    Unheard,
}

/// How many wanted replicas are on each host that is not connected, by its name.
fn hosts_of(app: &App, snapshot: &Snapshot) -> BTreeMap<(String, Sorted), usize> {
    let mut hosts = BTreeMap::new();
    for evidence in wanted(snapshot) {
        let id = evidence.replica.host;
        let how = match app.contact(id) {
            Contact::Connected => continue,
            Contact::Away => Sorted::Away,
            Contact::Awaited if app.hosts.left_at(id).is_some() => Sorted::Left,
            Contact::Awaited => Sorted::Unheard,
        };
        let host = snapshot.hosts.iter().find(|host| host.id == id);
        let name = host.map_or_else(|| id.to_string(), |host| host.name.to_string());
        *hosts.entry((name, how)).or_insert(0) += 1;
    }
    hosts
}

fn unheard_hosts(app: &App, snapshot: &Snapshot, unschedulable: Option<&Unschedulable>) -> String {
    let mut words: Vec<String> = hosts_of(app, snapshot)
        .into_iter()
        .map(|((name, how), replicas)| {
            let what = match how {
                Sorted::Unheard => {
                    format!("host `{name}` has not been heard since this server was started")
                }
                Sorted::Left => format!("host `{name}` lost its connection a moment ago"),
                Sorted::Away => absence(snapshot, &name),
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
fn unheard_agents(app: &App, snapshot: &Snapshot) -> String {
    let unheard = snapshot
        .replicas
        .iter()
        .filter(|e| e.is_unknown() && app.hosts.is_connected(e.replica.host))
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
