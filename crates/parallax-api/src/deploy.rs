//! Deploying.

use parallax_core::manifest::AgentSpec;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::agents::{AgentView, RevisionRef};
use crate::plan::PlanView;

/// The multipart form of a deployment. The parts come in this order.
#[derive(Debug, ToSchema)]
pub struct DeployForm {
    /// JSON; see `docs/reference/parallax-toml.md`.
    #[schema(value_type = Object)]
    pub spec: AgentSpec,
    /// `true` registers the agent and runs nothing.
    pub suspended: Option<bool>,
    /// A tar.gz of the source; may be left out with `suspended`, and in a dry run.
    #[schema(value_type = Option<String>, format = Binary)]
    pub source: Option<Vec<u8>>,
}

/// The JSON form of a deployment, without a source archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    #[schema(value_type = Object)]
    pub spec: AgentSpec,
    #[serde(default)]
    pub suspended: bool,
    /// An image to run; answers `not_implemented` in this release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// A repository to build; answers `not_implemented` in this release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<String>,
}

/// A deployment that was taken on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeployResponse {
    pub agent: AgentView,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionRef>,
    /// Where its status is.
    pub status_url: String,
    /// `false` when the same spec and source run already. A change of `replicas` alone keeps the
    /// revision.
    pub changed: bool,
}

/// What a deployment would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DryRun {
    pub agent: String,
    pub action: DeployAction,
    /// The spec with its defaults filled in.
    #[schema(value_type = Object)]
    pub spec: AgentSpec,
    /// Absent when no source was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_digest: Option<String>,
    /// The number that a new revision would get; absent when none would be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// How many replicas would be wanted: what the spec states, or as many as there are.
    #[serde(default)]
    pub replicas: u32,
    pub build: BuildForecast,
    /// The host that reported this source and these build settings as built; only with `prepared`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared_on: Option<String>,
    /// Why no host could take a replica of it now, host by host; absent when one could, or when
    /// none would be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unschedulable: Option<String>,
    /// How it would be built and started, as `parallax plan --json` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanView>,
    /// The host whose tools the plan is made for; another host plans with its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned_for: Option<String>,
    /// Why there is no plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_note: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeployAction {
    Create,
    Update,
    /// The same spec and source run already.
    Nothing,
}

/// Whether hosts would have to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BuildForecast {
    Needed,
    /// A host has reported this source and these build settings as built, and not that they are
    /// gone since. Should they be gone, it builds again. Other hosts would build.
    Prepared,
    /// No source was sent.
    Unknown,
}
