//! Installed dependencies, kept by what they were installed from: a build with an equal lockfile
//! and equal tools copies them instead of installing.
//!
//! Each tenant has entries of its own, in a folder that its build steps cannot reach. They are
//! copied and never linked: what runs in a build may change its own files in place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parallax_builder::{Plan, prepare};
use parallax_core::id::BuildId;
use parallax_shim::durable;

use crate::error::HostError;
use crate::layout::{make_private, remove_tree};

/// Entries of one tenant that are kept: the agents that are worked on at a time. Each may be as
/// large as a `node_modules`.
const KEEP: usize = 8;
/// Where an entry says in which folder it was made, because environments hold absolute paths.
const MADE_AT: &str = "made-at.json";
/// Where an entry keeps the folders.
const TREE: &str = "tree";

/// The kept dependencies of one tenant.
#[derive(Clone, Debug)]
pub(super) struct Dependencies {
    dir: PathBuf,
}

impl Dependencies {
    /// Those in `dir`, which may not exist yet.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Copies the dependencies of `key` into the unpacked source `app`. False when there are none.
    /// Blocks.
    ///
    /// # Errors
    /// When copying fails; then nothing of them is left in `app`.
    pub(super) fn restore(&self, key: &str, plan: &Plan, app: &Path) -> Result<bool, HostError> {
        let entry = self.dir.join(key);
        let Some(made_at) = durable::read_json::<PathBuf>(&entry.join(MADE_AT))? else {
            return Ok(false);
        };
        let copied = plan.dependency_dirs.iter().try_for_each(|dir| {
            let to = app.join(dir);
            copy_tree(&entry.join(TREE).join(dir), &to)?;
            if to.join("pyvenv.cfg").is_file() {
                prepare::relocate_venv(&to, &made_at.join(dir))?;
            }
            Ok(())
        });
        if let Err(source) = copied {
            for dir in &plan.dependency_dirs {
                remove_tree(&app.join(dir))?;
            }
            return Err(HostError::io("copy kept dependencies from", &entry)(source));
        }
        // What was used last stays longest.
        let used = fs::File::open(entry.join(MADE_AT)).and_then(|file| file.set_modified(now()));
        used.map_err(HostError::io("mark", &entry))?;
        Ok(true)
    }

    /// Keeps what the install steps of `build` made of `app`. Blocks.
    ///
    /// # Errors
    /// When copying fails; then nothing is kept.
    pub(super) fn keep(
        &self,
        key: &str,
        plan: &Plan,
        app: &Path,
        build: BuildId,
    ) -> Result<(), HostError> {
        let entry = self.dir.join(key);
        // A folder that is not there, or not where it should be, is none that could be kept.
        let real = |dir: &String| is_inside(&app.join(dir), app);
        if entry.exists() || !plan.dependency_dirs.iter().all(real) {
            return Ok(());
        }
        make_private(&self.dir)?;
        let tmp = self.dir.join(format!("{build}.tmp"));
        remove_tree(&tmp)?;
        make_private(&tmp)?;
        let kept = self.fill(&tmp, plan, app).and_then(|()| {
            fs::rename(&tmp, &entry).map_err(HostError::io("keep dependencies in", &entry))
        });
        if kept.is_err() {
            remove_tree(&tmp)?;
        }
        kept?;
        self.evict()
    }

    fn fill(&self, tmp: &Path, plan: &Plan, app: &Path) -> Result<(), HostError> {
        for dir in &plan.dependency_dirs {
            copy_tree(&app.join(dir), &tmp.join(TREE).join(dir))
                .map_err(HostError::io("keep dependencies of", app))?;
        }
        Ok(durable::write_json(&tmp.join(MADE_AT), &app)?)
    }

    /// Removes the entries that were not used for longest.
    fn evict(&self) -> Result<(), HostError> {
        let list = || -> io::Result<Vec<(SystemTime, PathBuf)>> {
            let mut entries = Vec::new();
            for entry in fs::read_dir(&self.dir)? {
                let path = entry?.path();
                if let Ok(marker) = fs::metadata(path.join(MADE_AT)) {
                    entries.push((marker.modified()?, path));
                }
            }
            Ok(entries)
        };
        let mut entries = list().map_err(HostError::io("list", &self.dir))?;
        entries.sort();
        let surplus = entries.len().saturating_sub(KEEP);
        for (_, path) in &entries[..surplus] {
            remove_tree(path)?;
        }
        Ok(())
    }
}

/// Whether `dir` is a folder in `app`, with no link on the way. A build's own steps made it, and
/// they may have made links to what only the host can read.
fn is_inside(dir: &Path, app: &Path) -> bool {
    let (Ok(real), Ok(app)) = (dir.canonicalize(), app.canonicalize()) else {
        return false;
    };
    let relative = real.strip_prefix(&app);
    relative.is_ok_and(|relative| dir.ends_with(relative)) && real.is_dir()
}

/// Copies a folder: links as links, files with their modes, nothing else.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a file's own time, compared with others'"
)]
fn now() -> SystemTime {
    SystemTime::now()
}
