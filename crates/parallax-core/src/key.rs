//! Credentials and what they may do.

use std::fmt;
use std::str::FromStr;

use crate::id::{AgentId, HostId, KeyId, ReplicaId, TenantId};
use crate::name::Name;
use crate::time::Timestamp;
use crate::word::{UnknownWord, words};

words! {
    /// One permission of a credential.
    pub enum Scope("a scope") {
        /// Everything within the tenant, keys and hosts included.
        Admin = "admin",
        /// Deploy, change and delete agents.
        Deploy = "deploy",
        /// Call agents; see and cancel tasks.
        Invoke = "invoke",
        /// See agents, their logs, tasks, hosts and the registry.
        Read = "read",
        /// Join the registry as an external agent.
        Agent = "agent",
        /// Join as a host.
        Host = "host",
        /// Answer running tasks and sessions.
        Input = "input",
        /// Decide approvals.
        Approve = "approve",
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u16);

impl Scopes {
    /// Whether the set grants `scope`: by itself, or through `admin`, or `read` through `deploy`
    /// and `invoke`. `admin` grants neither `agent`, `host` nor `approve`: a person's
    /// administration key must not pose as a machine, nor decide in an approver's place.
    #[must_use]
    pub fn allows(self, scope: Scope) -> bool {
        if self.contains(scope) {
            return true;
        }
        match scope {
            Scope::Read => {
                self.contains(Scope::Admin)
                    || self.contains(Scope::Deploy)
                    || self.contains(Scope::Invoke)
            }
            Scope::Deploy | Scope::Invoke | Scope::Input => self.contains(Scope::Admin),
            Scope::Admin | Scope::Agent | Scope::Host | Scope::Approve => false,
        }
    }

    /// Whether the scope itself is in the set.
    #[must_use]
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u16) != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL
            .iter()
            .copied()
            .filter(move |&scope| self.contains(scope))
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(
            scopes
                .into_iter()
                .fold(0, |set, scope| set | (1 << scope as u16)),
        )
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Scope::as_str).collect();
        f.write_str(&names.join(","))
    }
}

impl FromStr for Scopes {
    type Err = UnknownWord;

    /// Reads a comma-separated list.
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::parse)
            .collect()
    }
}

/// A stored API key. The secret itself is never stored, only its keyed hash.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub tenant: TenantId,
    pub id: KeyId,
    pub name: Name,
    /// HMAC-SHA-256 of the secret under the server's pepper.
    pub hash: Vec<u8>,
    pub scopes: Scopes,
    /// Such as `leads`; approvals name them as `group:leads`.
    pub groups: Vec<Name>,
    /// The host that the key belongs to, when it is a host's own credential.
    pub host: Option<HostId>,
    /// Usable once only, as join tokens are.
    pub single_use: bool,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
}

impl ApiKey {
    /// Whether the key opens anything at `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> KeyState {
        if self.revoked_at.is_some() {
            KeyState::Revoked
        } else if self.expires_at.is_some_and(|end| end <= now) {
            KeyState::Expired
        } else {
            KeyState::Active
        }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    Active,
    Expired,
    Revoked,
}

/// Who is calling, as its credential says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub tenant: TenantId,
    pub kind: PrincipalKind,
    /// What an audit shows: a key's name, or `replica:rpl_…`.
    pub name: String,
    pub scopes: Scopes,
    pub groups: Vec<Name>,
    pub expires_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrincipalKind {
    /// A person's or program's key.
    Key(KeyId),
    /// A host's own key.
    Host { key: KeyId, host: HostId },
    /// A hosted agent's short-lived credential.
    Replica {
        agent: AgentId,
        agent_name: Name,
        replica: ReplicaId,
    },
}

impl Principal {
    #[must_use]
    pub fn key_id(&self) -> Option<KeyId> {
        match self.kind {
            PrincipalKind::Key(key) | PrincipalKind::Host { key, .. } => Some(key),
            PrincipalKind::Replica { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_survive_being_shown_and_read() {
        let scopes: Scopes = "invoke, read".parse().expect("both are scopes");
        assert_eq!(scopes.to_string(), "invoke,read");
        assert!("root".parse::<Scopes>().is_err());
    }

    #[test]
    fn admin_never_grants_what_a_machine_or_an_approver_does() {
        let admin: Scopes = [Scope::Admin].into_iter().collect();
        let allowed: Vec<_> = Scope::ALL
            .iter()
            .copied()
            .filter(|&s| admin.allows(s))
            .collect();
        assert_eq!(
            allowed,
            [
                Scope::Admin,
                Scope::Deploy,
                Scope::Invoke,
                Scope::Read,
                Scope::Input
            ]
        );
    }

    #[test]
    fn reading_grants_nothing_else() {
        let read: Scopes = [Scope::Read].into_iter().collect();
        let allowed: Vec<_> = Scope::ALL
            .iter()
            .copied()
            .filter(|&s| read.allows(s))
            .collect();
        assert_eq!(allowed, [Scope::Read]);
    }
}
