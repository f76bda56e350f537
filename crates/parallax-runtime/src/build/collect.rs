//! Giving back the disk of what nobody needs any more: prepared revisions, logs of builds, archives.
//!
//! Everything goes in two steps. A rename into the trash folder takes it away at once and whole; the
//! removal of what is there may take its time, and is taken up again after a crash.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use parallax_core::build::BuildPhase;
use parallax_core::id::BuildId;
use parallax_core::time::Timestamp;

use super::record::BuildRecord;
use crate::error::{HostError, chain};
use crate::layout::{self, Layout, remove_tree};

/// Prepared revisions that are kept although no agent should run them: enough to go back to an
/// earlier one at once. Each may be as large as a `node_modules`.
pub(super) const KEEP_PREPARED: usize = 8;
/// Builds without a result whose logs are kept although their revisions are outdated.
pub(super) const KEEP_FAILED: usize = 8;
/// Source archives that are kept although no build waits for them: a source that is deployed again
/// with other settings is not downloaded again.
pub(super) const KEEP_ARCHIVES: usize = 8;

/// A build as far as it matters whether it may go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) record: &'a BuildRecord,
    /// When somebody last needed it.
    pub(super) used_at: Timestamp,
}

/// The builds that may go: ended, not `needed`, no other build's revision, and not among those that
/// were needed last.
pub(super) fn surplus<'a>(
    all: impl Iterator<Item = Candidate<'a>>,
    needed: &BTreeSet<BuildId>,
) -> Vec<BuildId> {
    let (ended, going_on): (Vec<_>, Vec<_>) = all.partition(|it| it.record.phase.is_terminal());
    let (mut kept, mut unused): (Vec<_>, Vec<_>) = ended
        .into_iter()
        .partition(|it| needed.contains(&it.record.build));
    kept.extend(going_on);
    unused.sort_by_key(|it| Reverse((it.used_at, it.record.build)));
    let (prepared, failed): (Vec<_>, Vec<_>) = unused
        .into_iter()
        .partition(|it| it.record.phase == BuildPhase::Succeeded);
    kept.extend(prepared.iter().take(KEEP_PREPARED));
    kept.extend(failed.iter().take(KEEP_FAILED));
    // A build that found an equal one runs in that one's folder.
    let own = kept.iter().map(|it| it.record.build);
    let folders = kept.iter().filter_map(|it| it.record.app);
    let kept: BTreeSet<BuildId> = own.chain(folders).collect();
    let surplus = prepared.iter().chain(&failed).map(|it| it.record.build);
    surplus.filter(|id| !kept.contains(id)).collect()
}

/// What a round of collection does to the disk. Meanwhile no build is at work or begins.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) layout: Layout,
    /// The builds to remove.
    pub(super) remove: Vec<BuildId>,
    /// Those that are needed now.
    pub(super) touch: Vec<BuildId>,
}

impl Round {
    /// Takes everything away that is to go. Blocks for some renames.
    ///
    /// # Errors
    /// When something cannot be moved; the next round tries again.
    pub(super) fn take_away(&self) -> Result<(), HostError> {
        for build in &self.touch {
            touch(&self.layout.build(*build).record());
        }
        for build in &self.remove {
            self.discard(self.layout.build(*build).path())?;
        }
        let dir = self.layout.artifacts();
        let names = layout::names(&dir).map_err(HostError::io("list", &dir))?;
        let mut unused: BTreeMap<_, String> = BTreeMap::new();
        for name in names {
            if name.ends_with(".part") {
                // No build is at work, and one that begins anew asks for all of it.
                self.discard(&dir.join(name))?;
            } else {
                unused.insert((last_use(&dir.join(&name)), name.clone()), name);
            }
        }
        let surplus = unused.len().saturating_sub(KEEP_ARCHIVES);
        for name in unused.values().take(surplus) {
            self.discard(&dir.join(name))?;
        }
        Ok(())
    }

    fn discard(&self, path: &Path) -> Result<(), HostError> {
        let trash = self.layout.trash();
        let taken = layout::names(&trash).map_err(HostError::io("list", &trash))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let free = (0..).map(|n: u64| format!("{name}.{n}"));
        let free = free.into_iter().find(|name| !taken.contains(name));
        let target = trash.join(free.expect("there is always another number"));
        match fs::rename(path, &target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(HostError::io("move away", path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Removes what was taken away, now or before a crash. Blocks for as long as that takes.
pub(super) fn empty_trash(layout: &Layout) {
    let trash = layout.trash();
    for name in layout::names(&trash).unwrap_or_default() {
        let path = trash.join(name);
        let removed = match path.is_dir() {
            true => remove_tree(&path),
            false => fs::remove_file(&path).map_err(HostError::io("remove", &path)),
        };
        if let Err(error) = removed {
            tracing::warn!(
                error = chain(&error),
                "cannot be removed; the next round tries again"
            );
        }
    }
}

/// When a file was last touched; the beginning of time when that is unknown.
pub(super) fn last_use(path: &Path) -> Timestamp {
    let modified = fs::metadata(path).and_then(|it| it.modified());
    let since = modified.map(|at| {
        at.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
    });
    let micros = since.map_or(0, |since| {
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    });
    Timestamp::from_unix_micros(micros)
}

/// Notes that a file is needed now. One that cannot be touched only looks older than it is.
#[expect(
    clippy::disallowed_methods,
    reason = "a file's own time, compared with others'"
)]
pub(super) fn touch(path: &Path) {
    if let Err(error) = fs::File::open(path).and_then(|it| it.set_modified(SystemTime::now())) {
        tracing::debug!(%error, file = %path.display(), "use not noted");
    }
}

#[cfg(test)]
mod tests;
