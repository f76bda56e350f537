//! One digest for one tree, however it was packed.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::error::PackError;
use super::exclude::Excludes;
use super::limits::Limits;
use super::pack::{Entry, EntryKind, walk};

/// The SHA-256 of a tree's canonical form: every entry in the order of paths, with its kind,
/// whether it is executable, and its content or target. Times, owners, the order in the archive and
/// the compression do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TreeDigest([u8; 32]);

impl TreeDigest {
    /// The digest's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for TreeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Digests what of a folder would be packed.
///
/// # Errors
/// As [`super::pack()`].
pub fn digest_folder(
    folder: &Path,
    excludes: &Excludes,
    limits: &Limits,
) -> Result<TreeDigest, PackError> {
    let mut canonical = Canonical::default();
    for entry in walk(folder, excludes, limits)? {
        add_entry(&mut canonical, &entry)?;
    }
    Ok(canonical.finish())
}

pub(super) fn add_entry(canonical: &mut Canonical, entry: &Entry) -> Result<(), PackError> {
    match &entry.kind {
        EntryKind::Folder => canonical.folder(&entry.path),
        EntryKind::Link(target) => canonical.link(&entry.path, target),
        EntryKind::File { executable, .. } => {
            let failed = |source| PackError::Read {
                path: entry.real.clone(),
                source,
            };
            let file = std::fs::File::open(&entry.real).map_err(failed)?;
            let content = hash_of(file).map_err(failed)?;
            canonical.file(&entry.path, *executable, content);
        }
    }
    Ok(())
}

pub(super) fn hash_of(mut reader: impl Read) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// Collects entries in any order.
#[derive(Debug, Default)]
pub(super) struct Canonical {
    entries: BTreeMap<String, (u8, Vec<u8>)>,
}

impl Canonical {
    pub(super) fn folder(&mut self, path: &str) {
        self.parents(path);
        self.entries.insert(path.to_owned(), (b'd', Vec::new()));
    }

    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.parents(path);
        let target = target.as_bytes().to_vec();
        self.entries.insert(path.to_owned(), (b'l', target));
    }

    pub(super) fn file(&mut self, path: &str, executable: bool, content: [u8; 32]) {
        self.parents(path);
        let kind = if executable { b'x' } else { b'f' };
        self.entries
            .insert(path.to_owned(), (kind, content.to_vec()));
    }

    /// Archives need not name the folders of their files.
    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.entries
                .entry(path[..at].to_owned())
                .or_insert_with(|| (b'd', Vec::new()));
        }
    }

    pub(super) fn finish(self) -> TreeDigest {
        let mut hasher = Sha256::new();
        hasher.update(b"parallax-tree-1\n");
        for (path, (kind, content)) in &self.entries {
            hasher.update([*kind]);
            // Lengths keep neighbouring fields apart.
            hasher.update((path.len() as u64).to_be_bytes());
            hasher.update(path.as_bytes());
            hasher.update((content.len() as u64).to_be_bytes());
            hasher.update(content);
        }
        TreeDigest(hasher.finalize().into())
    }
}
