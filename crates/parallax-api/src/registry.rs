//! Who is connected now.

use std::collections::BTreeMap;

use parallax_core::id::{AgentId, ReplicaId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;

/// A connected instance of an agent, external or hosted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RegistryEntry {
    pub agent_name: String,
    /// Absent for external agents, like `replica_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub agent_id: Option<AgentId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub replica_id: Option<ReplicaId>,
    pub instance_uuid: String,
    pub capabilities: Vec<CapabilityView>,
    pub labels: BTreeMap<String, String>,
    pub sdk: SdkView,
    pub lease_epoch: u64,
    /// `connected`, `suspect` (the connection dropped, the lease runs) or `draining`.
    pub state: String,
    pub connected_at: Time,
    pub lease_until: Time,
    pub in_flight: u32,
    /// Tasks that it would take now.
    pub credit: u32,
    /// Its own measure in parts per million; absent when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_ppm: Option<u32>,
    /// Cancels that were asked for and that it never acknowledged.
    pub unresolved_cancels: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CapabilityView {
    pub name: String,
    pub version: String,
    pub description: String,
    /// 0 means no limit of its own.
    pub max_concurrency: u32,
    pub idempotent: bool,
    /// JSON Schema; absent when undeclared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<serde_json::Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SdkView {
    pub name: String,
    pub version: String,
    pub language: String,
}

/// What a watcher of the registry is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RegistryEvent {
    /// The present entries follow, from an empty slate.
    Resync,
    /// All present entries were sent; changes follow.
    Synced,
    Upserted {
        entry: Box<RegistryEntry>,
    },
    Removed {
        agent_name: String,
        instance_uuid: String,
    },
    /// Why the server ended the stream.
    Problem {
        problem: Box<crate::Problem>,
    },
}
