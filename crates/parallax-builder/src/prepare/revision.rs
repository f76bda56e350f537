//! A prepared revision on disk: there as a whole, or not at all.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::plan::Plan;

/// The plan of a finished revision; its presence is what makes the revision finished.
const MARKER: &str = "plan.json";
const TREE: &str = "tree";

/// Why a revision could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum RevisionError {
    /// The id would not be a plain name of a folder.
    #[error("`{0}` is no name for a revision's folder")]
    BadId(String),
    /// A finished revision of this id is there.
    #[error("the revision {0} is already prepared")]
    Exists(String),
    /// The disk did not do what it was asked.
    #[error("cannot {what} {}", path.display())]
    Disk {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The plan of a finished revision is damaged.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// `BASE/ID/` with `tree/` (the source and what the steps make of it) and `plan.json`.
///
/// It is built where it stays, since environments and links hold absolute paths; `plan.json` comes
/// last, by a rename. A folder without it is a build that never ended, and is removed by the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    folder: PathBuf,
}

impl Revision {
    /// Makes the folder (mode 0700) for a new build, after removing what an unfinished one left.
    ///
    /// # Errors
    /// When a finished revision is there, or the disk refuses.
    pub fn begin(base: &Path, id: &str) -> Result<Self, RevisionError> {
        let revision = Self::at(base, id)?;
        if revision.is_finished() {
            return Err(RevisionError::Exists(id.to_owned()));
        }
        revision.remove()?;
        let folder = &revision.folder;
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(folder).map_err(disk("create", folder))?;
        let tree = revision.tree();
        DirBuilder::new()
            .mode(0o700)
            .create(&tree)
            .map_err(disk("create", &tree))?;
        Ok(revision)
    }

    /// A revision that is finished; `None` when there is none of this id.
    ///
    /// # Errors
    /// When the id is no plain name.
    pub fn finished(base: &Path, id: &str) -> Result<Option<Self>, RevisionError> {
        let revision = Self::at(base, id)?;
        Ok(revision.is_finished().then_some(revision))
    }

    /// Writes the plan and thereby finishes the revision, durably.
    ///
    /// # Errors
    /// When the disk refuses; the revision then stays unfinished.
    pub fn commit(&self, plan: &Plan) -> Result<(), RevisionError> {
        let marker = self.folder.join(MARKER);
        let temporary = self.folder.join("plan.json.new");
        let json = serde_json::to_vec_pretty(plan).map_err(|source| RevisionError::Damaged {
            path: marker.clone(),
            source,
        })?;
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| {
                file.write_all(&json)?;
                file.sync_all()
            });
        written.map_err(disk("write", &temporary))?;
        std::fs::rename(&temporary, &marker).map_err(disk("finish", &marker))?;
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(disk("finish", &self.folder))
    }

    /// The plan that the revision was built by.
    ///
    /// # Errors
    /// When it is not there or damaged.
    pub fn plan(&self) -> Result<Plan, RevisionError> {
        let path = self.folder.join(MARKER);
        let json = std::fs::read(&path).map_err(disk("read", &path))?;
        serde_json::from_slice(&json).map_err(|source| RevisionError::Damaged { path, source })
    }

    /// Where the archive is unpacked and the steps run.
    #[must_use]
    pub fn tree(&self) -> PathBuf {
        self.folder.join(TREE)
    }

    /// The revision's own folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes everything, the marker first, so that half a revision is never taken for a whole.
    ///
    /// # Errors
    /// When the disk refuses; nothing being there is success.
    pub fn remove(&self) -> Result<(), RevisionError> {
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        let marker = self.folder.join(MARKER);
        gone(std::fs::remove_file(&marker)).map_err(disk("remove", &marker))?;
        gone(std::fs::remove_dir_all(&self.folder)).map_err(disk("remove", &self.folder))
    }

    fn at(base: &Path, id: &str) -> Result<Self, RevisionError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if id.is_empty() || id.len() > 128 || !id.bytes().all(plain) {
            return Err(RevisionError::BadId(id.chars().take(128).collect()));
        }
        Ok(Self {
            folder: base.join(id),
        })
    }

    fn is_finished(&self) -> bool {
        self.folder.join(MARKER).is_file()
    }
}

fn disk(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RevisionError {
    let path = path.to_owned();
    move |source| RevisionError::Disk { what, path, source }
}

#[cfg(test)]
mod tests;
