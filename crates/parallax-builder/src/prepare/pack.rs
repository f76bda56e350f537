//! A folder as a deterministic tar.gz: equal folders give equal bytes.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use super::digest::{Canonical, TreeDigest};
use super::error::PackError;
use super::exclude::Excludes;
use super::limits::Limits;
use super::unpack::target_stays_inside;

/// What was packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// The digest of the tree that was packed.
    pub digest: TreeDigest,
    /// Files, folders and links.
    pub entries: u64,
    /// Bytes of all files together.
    pub bytes: u64,
}

pub(super) struct Entry {
    /// Relative to the folder, with `/`.
    pub(super) path: String,
    pub(super) real: PathBuf,
    pub(super) kind: EntryKind,
}

pub(super) enum EntryKind {
    Folder,
    File { executable: bool, bytes: u64 },
    Link(String),
}

/// Writes `folder` into `writer` as tar.gz: sorted, without times and owners, of modes only
/// whether a file is executable.
///
/// # Errors
/// When something cannot be read, leads out of the folder, or exceeds the limits.
pub fn pack<W: Write>(
    folder: &Path,
    excludes: &Excludes,
    limits: &Limits,
    writer: W,
) -> Result<Packed, PackError> {
    let entries = walk(folder, excludes, limits)?;
    // No time and no file name in the header: equal content, equal bytes.
    let gzip = GzBuilder::new()
        .mtime(0)
        .write(writer, Compression::default());
    let mut archive = tar::Builder::new(gzip);
    let mut canonical = Canonical::default();
    let mut packed_bytes = 0;
    for entry in &entries {
        packed_bytes += append(&mut archive, entry, &mut canonical)?;
    }
    let gzip = archive.into_inner().map_err(PackError::Write)?;
    gzip.finish().map_err(PackError::Write)?;
    Ok(Packed {
        digest: canonical.finish(),
        entries: entries.len() as u64,
        bytes: packed_bytes,
    })
}

/// The digest is of the bytes as they go into the archive, so that both always agree.
fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    entry: &Entry,
    canonical: &mut Canonical,
) -> Result<u64, PackError> {
    let mut header = Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header.set_mode(0o755);
    match &entry.kind {
        EntryKind::Folder => {
            header.set_entry_type(EntryType::Directory);
            let path = format!("{}/", entry.path);
            archive
                .append_data(&mut header, path, std::io::empty())
                .map_err(PackError::Write)?;
            canonical.folder(&entry.path);
            Ok(0)
        }
        EntryKind::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            archive
                .append_link(&mut header, &entry.path, target)
                .map_err(PackError::Write)?;
            canonical.link(&entry.path, target);
            Ok(0)
        }
        EntryKind::File { executable, bytes } => {
            header.set_entry_type(EntryType::Regular);
            header.set_mode(if *executable { 0o755 } else { 0o644 });
            header.set_size(*bytes);
            let file = std::fs::File::open(&entry.real).map_err(|source| PackError::Read {
                path: entry.real.clone(),
                source,
            })?;
            let mut exact = Exact {
                file,
                left: *bytes,
                changed: false,
                hasher: Sha256::new(),
            };
            let appended = archive.append_data(&mut header, &entry.path, &mut exact);
            if exact.changed || exact.left > 0 {
                return Err(PackError::Changed(entry.real.clone()));
            }
            appended.map_err(PackError::Write)?;
            let content = exact.hasher.finalize().into();
            canonical.file(&entry.path, *executable, content);
            Ok(*bytes)
        }
    }
}

/// Exactly as many bytes as the header says, or a note that the file changed.
struct Exact {
    file: std::fs::File,
    left: u64,
    changed: bool,
    hasher: Sha256,
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            // One more byte would mean that the file grew.
            self.changed |= self.file.read(&mut [0])? > 0;
            return Ok(0);
        }
        let wanted = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = self.file.read(&mut buffer[..wanted])?;
        self.changed |= read == 0 && wanted > 0;
        self.left -= read as u64;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// Everything in `folder` that is not excluded, sorted by path.
pub(super) fn walk(
    folder: &Path,
    excludes: &Excludes,
    limits: &Limits,
) -> Result<Vec<Entry>, PackError> {
    let mut entries = Vec::new();
    let (mut bytes, mut paths_bytes) = (0, 0);
    let mut folders = vec![String::new()];
    while let Some(at) = folders.pop() {
        let real = folder.join(&at);
        let failed = |source| PackError::Read {
            path: real.clone(),
            source,
        };
        for child in std::fs::read_dir(&real).map_err(failed)? {
            let child = child.map_err(failed)?;
            let kind = child.file_type().map_err(failed)?;
            let name = child.file_name();
            let Some(name) = name.to_str() else {
                if excludes.excludes(&Path::new(&at).join(&name), kind.is_dir()) {
                    continue;
                }
                return Err(PackError::BadName(child.path()));
            };
            let path = if at.is_empty() {
                name.to_owned()
            } else {
                format!("{at}/{name}")
            };
            if excludes.excludes(Path::new(&path), kind.is_dir()) {
                continue;
            }
            if kind.is_dir() {
                folders.push(path.clone());
            }
            let kind = entry_kind(&child.path(), &path, kind)?;
            paths_bytes += path.len() as u64;
            match &kind {
                EntryKind::File { bytes: size, .. } => bytes += size,
                EntryKind::Link(target) => paths_bytes += target.len() as u64,
                // An archive ends its name with a slash.
                EntryKind::Folder => paths_bytes += 1,
            }
            entries.push(Entry {
                path,
                real: child.path(),
                kind,
            });
            let too_many = entries.len() as u64 > limits.entries;
            if too_many || bytes > limits.expanded_bytes || paths_bytes > limits.paths_bytes {
                return Err(PackError::TooLarge {
                    entries: limits.entries,
                    bytes: limits.expanded_bytes,
                    paths_bytes: limits.paths_bytes,
                });
            }
        }
    }
    entries.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(entries)
}

fn entry_kind(real: &Path, path: &str, kind: std::fs::FileType) -> Result<EntryKind, PackError> {
    let failed = |source| PackError::Read {
        path: real.to_owned(),
        source,
    };
    if kind.is_dir() {
        return Ok(EntryKind::Folder);
    }
    if kind.is_symlink() {
        let target = std::fs::read_link(real).map_err(failed)?;
        return match target.to_str() {
            Some(text) if target_stays_inside(path, text) => Ok(EntryKind::Link(text.to_owned())),
            _ => Err(PackError::LinkEscapes {
                path: real.to_owned(),
                target,
            }),
        };
    }
    if !kind.is_file() {
        return Err(PackError::Special(real.to_owned()));
    }
    let meta = std::fs::symlink_metadata(real).map_err(failed)?;
    Ok(EntryKind::File {
        executable: meta.permissions().mode() & 0o111 != 0,
        bytes: meta.len(),
    })
}
