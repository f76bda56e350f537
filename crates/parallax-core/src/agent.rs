//! Hosted agents and their immutable revisions.

use crate::id::{AgentId, RevisionId, TenantId};
use crate::manifest::AgentSpec;
use crate::name::Name;
use crate::status::Status;
use crate::time::Timestamp;
use crate::word::words;

/// Names that paths below `/api/agents/` give another meaning: an agent of that name could be neither
/// read nor deleted by it.
pub const RESERVED_NAMES: &[&str] = &["deploy"];

/// Most replicas that one agent may ask for; placement may still find room for fewer.
pub const MAX_REPLICAS: u32 = 100;

words! {
    /// Who writes an agent. The other door answers `managed_elsewhere`.
    pub enum ManagedBy("an owner of agents") {
        Api = "api",
        Kubernetes = "kubernetes",
    }
}

/// A hosted agent: what is wanted, and the status that was last derived from observations.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    pub tenant: TenantId,
    pub id: AgentId,
    pub name: Name,
    pub managed_by: ManagedBy,
    /// Raised by every change of what is wanted; `Status.observed_generation` follows it.
    pub generation: u64,
    pub replicas: u32,
    /// The revision that is wanted; `None` before the first source arrives.
    pub revision: Option<RevisionId>,
    pub suspended: bool,
    /// Set once deletion was asked for; the row goes when nothing runs any more.
    pub delete: Option<Deletion>,
    pub status: Status,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A deletion under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    pub asked_at: Timestamp,
    /// Running tasks are waited for until then.
    pub drain_until: Timestamp,
}

/// One immutable version of an agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Revision {
    pub tenant: TenantId,
    pub id: RevisionId,
    pub agent: AgentId,
    /// Counts from 1 per agent.
    pub number: u64,
    pub spec: AgentSpec,
    /// `sha256:…` of the source archive in the blob store.
    pub source_digest: String,
    pub source_bytes: u64,
    /// Equal for revisions that one prepared directory can serve: see [`crate::build::build_key`].
    pub build_key: String,
    pub created_at: Timestamp,
    /// The name of the credential that deployed it.
    pub created_by: String,
}
