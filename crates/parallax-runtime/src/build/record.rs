//! What a build's folder remembers (`build.json`): what was asked, and how it ended.

use std::path::PathBuf;

use parallax_builder::Plan;
use parallax_core::build::BuildPhase;
use parallax_core::id::{BuildId, TenantId};
use parallax_core::manifest::BuildSpec;
use parallax_core::name::Name;
use parallax_core::status::Reason;
use parallax_core::time::Timestamp;
use parallax_proto::v1::{BuildState, DesiredBuild};
use parallax_shim::durable;
use serde::{Deserialize, Serialize};

use crate::error::HostError;
use crate::layout::BuildDir;

/// The format of `build.json` that this build reads and writes.
const VERSION: u32 = 1;

/// A build that names no limit: cold installs of large projects take minutes, never this long.
const DEFAULT_DEADLINE_MS: u64 = 30 * 60 * 1000;

/// One build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BuildRecord {
    version: u32,
    pub(crate) build: BuildId,
    pub(crate) tenant: TenantId,
    pub(crate) agent_name: Name,
    /// `sha256:` and 64 hexadecimal digits, of the archive's bytes.
    pub(crate) source_digest: String,
    pub(crate) source_bytes: u64,
    pub(crate) spec: BuildSpec,
    pub(crate) deadline_ms: u64,
    pub(crate) phase: BuildPhase,
    /// A word of [`Reason`].
    reason: Option<String>,
    pub(crate) message: String,
    pub(crate) plan: Option<Plan>,
    /// Whether another build's prepared revision serves.
    pub(crate) cached: bool,
    /// What makes two builds interchangeable here; once it is known.
    pub(crate) key: Option<String>,
    /// The build whose folder holds the prepared revision; only after success.
    pub(crate) app: Option<BuildId>,
    /// The start command's program, where it is one of the prepared files and was there when the
    /// build ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) program: Option<PathBuf>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) step: String,
}

/// Why a desired build cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("the server sent a build without a usable {0}")]
    Field(&'static str),
    #[error("the server sent build settings that this version does not know; upgrade the host")]
    Spec(#[source] serde_json::Error),
}

impl BuildRecord {
    /// Checks what a server sent, once.
    pub(crate) fn parse(wire: &DesiredBuild) -> Result<Self, RecordError> {
        let hex = wire
            .source_digest
            .strip_prefix("sha256:")
            .unwrap_or_default();
        if hex.len() != 64 || !hex.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(RecordError::Field("source digest"));
        }
        let deadline_ms = match wire.deadline_ms {
            0 => DEFAULT_DEADLINE_MS,
            given => given,
        };
        Ok(Self {
            version: VERSION,
            build: wire
                .build_id
                .parse()
                .map_err(|_| RecordError::Field("id"))?,
            tenant: wire
                .tenant_id
                .parse()
                .map_err(|_| RecordError::Field("tenant"))?,
            agent_name: wire
                .agent_name
                .parse()
                .map_err(|_| RecordError::Field("agent name"))?,
            source_digest: wire.source_digest.clone(),
            source_bytes: wire.source_bytes,
            spec: serde_json::from_slice(&wire.build_spec_json).map_err(RecordError::Spec)?,
            deadline_ms,
            phase: BuildPhase::Queued,
            reason: None,
            message: String::new(),
            plan: None,
            cached: false,
            key: None,
            app: None,
            program: None,
            started_at: None,
            ended_at: None,
            step: String::new(),
        })
    }

    /// Reads a build's folder; `None` when it does not say what the build is.
    ///
    /// # Errors
    /// When the record exists and cannot be read.
    pub(crate) fn load(dir: &BuildDir) -> Result<Option<Self>, HostError> {
        Ok(durable::read_json(&dir.record())?)
    }

    /// Forgets how far an interrupted build had come.
    pub(crate) fn begin_anew(&mut self) {
        self.phase = BuildPhase::Queued;
        self.plan = None;
        self.key = None;
        self.step.clear();
        self.message.clear();
        self.started_at = None;
    }

    /// Moves to a phase of work.
    pub(crate) fn advance(&mut self, phase: BuildPhase, step: &str, message: String) {
        self.phase = phase;
        step.clone_into(&mut self.step);
        self.message = message;
    }

    /// Ends the build without a prepared revision.
    pub(crate) fn fail(&mut self, reason: Reason, message: String, now: Timestamp) {
        self.phase = match reason {
            Reason::BuildCancelled => BuildPhase::Cancelled,
            _ => BuildPhase::Failed,
        };
        self.reason = Some(reason.as_str().to_owned());
        self.message = message;
        self.ended_at = Some(now);
    }

    /// Ends the build with the revision that lies in the folder of `app`.
    pub(crate) fn succeed(&mut self, app: BuildId, now: Timestamp) {
        self.phase = BuildPhase::Succeeded;
        self.cached = app != self.build;
        self.app = Some(app);
        self.message.clear();
        self.step.clear();
        self.ended_at = Some(now);
    }

    /// As the control plane is told.
    pub(crate) fn to_wire(&self) -> BuildState {
        let plan = self.plan.as_ref();
        BuildState {
            build_id: self.build.to_string(),
            tenant_id: self.tenant.to_string(),
            phase: self.phase.as_str().to_owned(),
            reason: self.reason.clone().unwrap_or_default(),
            message: self.message.clone(),
            plan_json: plan
                .map(|plan| {
                    serde_json::to_vec(plan)
                        .expect("a plan has only string keys")
                        .into()
                })
                .unwrap_or_default(),
            cached: self.cached,
            started_unix_us: self.started_at.map_or(0, Timestamp::unix_micros),
            ended_unix_us: self.ended_at.map_or(0, Timestamp::unix_micros),
            step: self.step.clone(),
        }
    }
}
