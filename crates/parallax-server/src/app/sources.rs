//! Uploaded archives: looked at before they are taken on, and planned for a dry run.

mod inspections;

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use parallax_builder::prepare::{self, Limits, UnpackError};
use parallax_builder::toolchain::{Tool, ToolKind};
use parallax_builder::{Plan, PlanError, SourceTree, Toolchain};
use parallax_core::error::{Code, Error, Result};
use parallax_core::host::HostTool;
use parallax_core::id::TenantId;
use parallax_core::key::Principal;
use parallax_core::manifest::{AgentSpec, BuildSpec};
use parallax_core::name::Name;
use parallax_store::{BlobWriter, Page, Scratch, hosts};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};

use super::App;
use super::deploy::StoredSource;
pub use inspections::Inspections;

/// Hosts among which one with tools is looked for.
const HOSTS_CONSIDERED: u32 = 1000;

impl App {
    /// Begins an upload of at most [`super::Limits::max_source_bytes`].
    ///
    /// # Errors
    /// Whatever the disk says.
    pub async fn begin_source(&self, tenant: TenantId) -> Result<BlobWriter> {
        let limit = self.limits.max_source_bytes;
        Ok(self.blobs.put(tenant, limit).await?)
    }

    /// Refuses an archive that no host would unpack.
    ///
    /// # Errors
    /// `invalid_source` with the entry and the reason; `too_large` for one that holds too much;
    /// `resource_exhausted` when its turn does not come.
    pub async fn check_source(&self, archive: &mut BlobWriter) -> Result<()> {
        let file = archive.reader().await?;
        let turn = self.inspections.turn().await?;
        let looked_at = blocking(move || {
            let looked_at = prepare::inspect(BufReader::new(file), &Limits::default());
            // Not when the caller hangs up: this goes on.
            drop(turn);
            looked_at
        });
        looked_at.await?.map(drop).map_err(refused)
    }

    /// Puts a checked archive in place.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub async fn keep_source(&self, archive: BlobWriter) -> Result<StoredSource> {
        let stored = archive.finish(None).await?;
        Ok(StoredSource {
            digest: stored.digest.as_str().to_owned(),
            bytes: stored.size_bytes,
        })
    }

    /// Plans how a checked archive would be built and started, with the tools of a host that is
    /// there, or else of one that was. Leaves nothing of it.
    ///
    /// # Errors
    /// `start_command_missing` and `plan_failed` with what would settle it; `resource_exhausted`
    /// when its turn does not come; whatever the disk says.
    pub async fn plan_upload(
        &self,
        principal: &Principal,
        archive: &mut BlobWriter,
        spec: &AgentSpec,
    ) -> Result<Planned> {
        let mut tx = self.store.read(principal.tenant).await?;
        let listed = hosts::list(&mut tx, &Page::first(HOSTS_CONSIDERED)).await?;
        drop(tx);
        let mut able = listed.items;
        if able.is_empty() {
            let why = "no host has joined, so its tools are not known";
            return Ok(Planned::NoTools(why.to_owned()));
        }
        able.retain(|host| !host.facts.tools.is_empty());
        able.sort_by_key(|host| !self.hosts.is_connected(host.id));
        let Some(host) = able.into_iter().next() else {
            let why = "no host has said which tools it has";
            return Ok(Planned::NoTools(why.to_owned()));
        };
        let toolchain = toolchain(&host.facts.tools);
        let file = archive.reader().await?;
        let scratch = self.blobs.scratch(principal.tenant).await?;
        let spec = spec.build();
        let turn = self.inspections.turn().await?;
        let planned = blocking(move || {
            let planned = unpack_and_plan(file, &scratch, &spec, &toolchain);
            drop(turn);
            planned
        });
        Ok(Planned::For(host.name, Box::new(planned.await??)))
    }
}

/// What came of planning an upload.
#[derive(Debug)]
pub enum Planned {
    /// With the tools of this host.
    For(Name, Box<Plan>),
    /// There is no host whose tools are known, for this reason.
    NoTools(String),
    NoSource,
}

/// A host's tools as the planner knows them. Kinds of a newer host are of no use to it.
fn toolchain(tools: &[HostTool]) -> Toolchain {
    let known = tools.iter().filter_map(|tool| {
        let kind: StrDeserializer<'_, ValueError> = tool.kind.as_str().into_deserializer();
        Some(Tool {
            kind: ToolKind::deserialize(kind).ok()?,
            version: tool.version.clone(),
            path: PathBuf::from(&tool.path),
            read_paths: Vec::new(),
            ensurepip: tool.ensurepip,
        })
    });
    Toolchain {
        tools: known.collect(),
    }
}

fn unpack_and_plan(
    archive: File,
    scratch: &Scratch,
    spec: &BuildSpec,
    toolchain: &Toolchain,
) -> Result<Plan> {
    let folder = scratch.path().join("source");
    prepare::unpack(BufReader::new(archive), &folder, &Limits::default()).map_err(refused)?;
    let tree = SourceTree::open(&folder).map_err(Error::internal)?;
    parallax_builder::plan(&tree, spec, toolchain).map_err(unplanned)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(Error::internal)
}

fn refused(error: UnpackError) -> Error {
    let code = match &error {
        UnpackError::TooManyEntries(_)
        | UnpackError::TooLarge(_)
        | UnpackError::PathsTooLong(_) => Code::TooLarge,
        UnpackError::Malformed(_) | UnpackError::BadHeader(_) | UnpackError::Entry { .. } => {
            Code::InvalidSource
        }
        UnpackError::Write { source, .. }
            if matches!(
                source.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            ) =>
        {
            Code::StorageFull
        }
        UnpackError::Write { .. } | UnpackError::NotEmpty(_) => return Error::internal(error),
    };
    let text = match &error {
        // What the system says of it is not part of the text.
        UnpackError::Malformed(cause) => format!("the `source`: {error}: {cause}"),
        _ => format!("the `source`: {error}"),
    };
    Error::new(code, text).caused_by(error)
}

fn unplanned(error: PlanError) -> Error {
    let code = match &error {
        PlanError::StartCommandMissing { .. } => Code::StartCommandMissing,
        _ => Code::PlanFailed,
    };
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(deeper) = cause {
        text.push_str(": ");
        text.push_str(&deeper.to_string());
        cause = deeper.source();
    }
    Error::new(code, text).caused_by(error)
}
