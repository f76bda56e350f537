//! The folder that is deployed: its manifest, and what of it is packed.

use std::fs;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use parallax_builder::locate::{Located, locate};
use parallax_builder::prepare::{Excludes, Limits, Packed, pack};
use parallax_core::manifest::{self, AgentSpec, ManifestError};
use parallax_core::name::Name;

use super::described;
use crate::exit::{Ended, Exit};
use crate::format;
use crate::output::Output;

/// A folder with a manifest.
#[derive(Debug)]
pub(crate) struct Source {
    /// As an upload carries it.
    pub(crate) spec: AgentSpec,
    pub(crate) located: Located,
}

/// A packed folder: an unnamed file, gone when it is closed.
#[derive(Debug)]
pub(crate) struct Archive {
    pub(crate) file: fs::File,
    /// Compressed.
    pub(crate) bytes: u64,
}

impl Source {
    /// Reads the manifest in `dir` and finds what belongs to the agent.
    ///
    /// # Errors
    /// With [`Exit::Usage`] and every mistake's place, when the manifest has mistakes.
    pub(crate) fn read(dir: &Path, name: Option<Name>) -> Result<Self> {
        let path = dir.join(manifest::FILE_NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let message = match dir.is_dir() {
                    true => format!(
                        "{} does not exist; an agent's folder has one, with at least one line: name = \"…\"",
                        path.display()
                    ),
                    false => format!("there is no folder {}", dir.display()),
                };
                return Err(Ended::new(Exit::Usage, message).into());
            }
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let mut spec = manifest::parse(&text).map_err(|error| mistakes(&path, &error))?;
        spec.name = name.unwrap_or(spec.name);
        let located =
            locate(dir, &spec).with_context(|| format!("looking at {}", dir.display()))?;
        Ok(Self {
            spec: located.spec(&spec),
            located,
        })
    }

    /// Packs the folder and says how much that is.
    ///
    /// # Errors
    /// When something in it cannot be packed.
    pub(crate) async fn pack(&self, output: &Output) -> Result<Archive> {
        let progress = output.progress();
        let context = self.located.context.clone();
        progress.step(format_args!("packing {}", context.display()));
        let packing = tokio::task::spawn_blocking(move || pack_folder(context));
        let (packed, archive) = packing.await.context("packing the folder")??;
        progress.line(format_args!(
            "packed {}: {}, {} to send",
            self.located.context.display(),
            described(packed.entries, packed.bytes),
            format::bytes(archive.bytes)
        ));
        Ok(archive)
    }
}

fn pack_folder(context: PathBuf) -> Result<(Packed, Archive)> {
    let excludes = Excludes::of(&context)?;
    let mut file = tempfile::tempfile().context("creating a temporary file for the archive")?;
    let buffered = io::BufWriter::new(&mut file);
    let packed = pack(&context, &excludes, &Limits::default(), buffered)
        .with_context(|| format!("packing {}", context.display()))?;
    let bytes = file.stream_position().context("measuring the archive")?;
    file.seek(SeekFrom::Start(0))
        .context("rereading the archive")?;
    Ok((packed, Archive { file, bytes }))
}

/// Every mistake on a line of its own, after the path that the person gave.
fn mistakes(path: &Path, error: &ManifestError) -> Ended {
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let lines = error.problems.iter().map(|problem| {
        let place = folder.join(manifest::FILE_NAME);
        let (line, column) = (problem.line, problem.column);
        format!("{}:{line}:{column}: {}", place.display(), problem.message)
    });
    Ended::new(Exit::Usage, lines.collect::<Vec<_>>().join("\n"))
}
