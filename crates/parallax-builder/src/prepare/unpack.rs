//! Unpacks an archive that nobody vouches for.
//!
//! Safety rests on three rules. Every path is made of plain names only, so it lies in the
//! destination. No entry may lie below a link or file of the archive, so nothing is written through
//! a link. A link's target has `..` only at its beginning, and no more of them than the link is
//! deep; as links are never parents of links, following any chain of them stays inside.

mod headers;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use tar::EntryType;

use super::error::{Refusal, UnpackError};
use super::limits::Limits;
use headers::Overrides;

/// The longest target that Linux makes a link to.
const MAX_TARGET_BYTES: usize = 4095;

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpacked {
    /// Files, folders and links.
    pub entries: u64,
    /// Bytes of all files together.
    pub bytes: u64,
}

/// Unpacks a tar.gz into `destination`, an empty folder or one that is yet to be made. Files get
/// mode 0644 or 0755, folders 0755; owners, times, and setuid bits are not taken over.
///
/// # Errors
/// At the first entry that is unsafe or exceeds the limits; what was written until then stays for
/// the caller to remove.
pub fn unpack(
    reader: impl Read,
    destination: &Path,
    limits: &Limits,
) -> Result<Unpacked, UnpackError> {
    let write = |source| UnpackError::Write {
        path: destination.display().to_string(),
        source,
    };
    std::fs::create_dir_all(destination).map_err(write)?;
    if std::fs::read_dir(destination)
        .map_err(write)?
        .next()
        .is_some()
    {
        return Err(UnpackError::NotEmpty(destination.to_owned()));
    }
    let mut archive = Archive::new(limits, Some(destination));
    archive.read_all(reader)?;
    archive.make_links(destination)?;
    Ok(archive.unpacked())
}

/// Checks a tar.gz by the same rules without writing anything. Holds a few dozen bytes an entry,
/// however long the paths are.
///
/// # Errors
/// As [`unpack`].
pub fn inspect(reader: impl Read, limits: &Limits) -> Result<Unpacked, UnpackError> {
    let mut archive = Archive::new(limits, None);
    archive.read_all(reader)?;
    Ok(archive.unpacked())
}

/// Whether the link `path` (plain, relative) with this target stays in the tree.
pub(super) fn target_stays_inside(path: &str, target: &str) -> bool {
    if target.is_empty() || target.starts_with('/') || target.contains('\0') {
        return false;
    }
    let mut left = path.matches('/').count();
    let mut climbing = true;
    for part in target.split('/') {
        match part {
            ".." if !climbing || left == 0 => return false,
            ".." => left -= 1,
            "." | "" => {}
            _ => climbing = false,
        }
    }
    true
}

/// What the archive has at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Folder,
    File { executable: bool, bytes: u64 },
    Link,
}

/// Stands for a path: 128 bits of its SHA-256. Paths themselves would let a small archive, which
/// packs them well, fill the memory.
type PathId = [u8; 16];

fn id_of(path: &str) -> PathId {
    let digest: [u8; 32] = Sha256::digest(path).into();
    std::array::from_fn(|at| digest[at])
}

struct Archive<'a> {
    limits: &'a Limits,
    destination: Option<&'a Path>,
    seen: HashMap<PathId, Seen>,
    /// Paths and targets of the links that are yet to be made.
    links: Vec<(String, String)>,
    entries: u64,
    bytes: u64,
    paths_bytes: u64,
    buffer: Vec<u8>,
}

impl<'a> Archive<'a> {
    fn new(limits: &'a Limits, destination: Option<&'a Path>) -> Self {
        Self {
            limits,
            destination,
            seen: HashMap::new(),
            links: Vec::new(),
            entries: 0,
            bytes: 0,
            paths_bytes: 0,
            buffer: vec![0; 64 * 1024],
        }
    }

    fn read_all(&mut self, reader: impl Read) -> Result<(), UnpackError> {
        // Headers and padding cost at most this much beside the files themselves.
        let overhead = self.limits.entries.saturating_mul(8 * 1024) + (1 << 20);
        let most = self.limits.expanded_bytes.saturating_add(overhead);
        let mut archive = tar::Archive::new(MultiGzDecoder::new(reader).take(most));
        // Raw: extension headers come as entries, and are read here, with bounds.
        let entries = archive.entries().map_err(UnpackError::Malformed)?.raw(true);
        let mut overrides = Overrides::default();
        for entry in entries {
            let mut entry = entry.map_err(UnpackError::Malformed)?;
            if overrides.absorb(&mut entry)? {
                continue;
            }
            let path = overrides.path(&entry)?;
            let target = overrides.target(&entry)?;
            overrides = Overrides::default();
            self.count(path.len() + target.as_ref().map_or(0, Vec::len))?;
            self.add(&mut entry, &path, target.as_deref())?;
        }
        // Only at its end does the compression tell whether all before was as it was sent.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(UnpackError::Malformed)?;
        Ok(())
    }

    /// One entry more, whose path and target together are this long.
    fn count(&mut self, path_bytes: usize) -> Result<(), UnpackError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(UnpackError::TooManyEntries(self.limits.entries));
        }
        self.paths_bytes = self.paths_bytes.saturating_add(path_bytes as u64);
        if self.paths_bytes > self.limits.paths_bytes {
            return Err(UnpackError::PathsTooLong(self.limits.paths_bytes));
        }
        Ok(())
    }

    fn add(
        &mut self,
        entry: &mut impl TarEntry,
        raw_path: &[u8],
        target: Option<&[u8]>,
    ) -> Result<(), UnpackError> {
        let refuse = |refusal| UnpackError::Entry {
            path: shown(raw_path),
            refusal,
        };
        let Some(path) = self.plain_path(raw_path).map_err(refuse)? else {
            return Ok(()); // The folder itself, `./`.
        };
        let kind = entry.kind();
        self.make_parents(&path, &refuse)?;
        let id = id_of(&path);
        match (self.seen.get(&id), kind) {
            (Some(Seen::Folder), EntryType::Directory) => return Ok(()),
            (Some(_), _) => return Err(refuse(Refusal::Duplicate)),
            (None, _) => {}
        }
        let seen = match kind {
            EntryType::Directory => {
                self.make_folder(&path)?;
                Seen::Folder
            }
            EntryType::Regular | EntryType::Continuous => self.add_file(entry, &path)?,
            EntryType::Symlink => {
                let target = target.and_then(|target| std::str::from_utf8(target).ok());
                self.add_link(&path, target).map_err(refuse)?
            }
            EntryType::Link => self
                .add_hard_link(&path, target)
                .map_err(|error| match error {
                    HardLink::Refused(refusal) => refuse(refusal),
                    HardLink::Failed(error) => error,
                })?,
            other => return Err(refuse(Refusal::Special(special_name(other)))),
        };
        self.seen.insert(id, seen);
        Ok(())
    }

    /// The path made of plain names; `None` for the archive's own folder.
    fn plain_path(&self, raw: &[u8]) -> Result<Option<String>, Refusal> {
        let text = std::str::from_utf8(raw).map_err(|_| Refusal::BadPath)?;
        if text.is_empty() || text.contains('\0') {
            return Err(Refusal::BadPath);
        }
        if text.starts_with('/') {
            return Err(Refusal::Absolute);
        }
        let mut parts = Vec::new();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => return Err(Refusal::Climbs),
                // The longest name that file systems take.
                part if part.len() > 255 => return Err(Refusal::PathTooLong),
                part => parts.push(part),
            }
        }
        let path = parts.join("/");
        if path.len() > self.limits.path_bytes || parts.len() > self.limits.depth {
            return Err(Refusal::PathTooLong);
        }
        Ok((!path.is_empty()).then_some(path))
    }

    fn make_parents(
        &mut self,
        path: &str,
        refuse: &impl Fn(Refusal) -> UnpackError,
    ) -> Result<(), UnpackError> {
        for (at, _) in path.match_indices('/') {
            let parent = &path[..at];
            let id = id_of(parent);
            match self.seen.get(&id) {
                Some(Seen::Folder) => {}
                Some(_) => return Err(refuse(Refusal::ThroughNonFolder(parent.to_owned()))),
                None => {
                    // Folders that are only implied cost inodes as well.
                    self.count(parent.len())?;
                    self.make_folder(parent)?;
                    self.seen.insert(id, Seen::Folder);
                }
            }
        }
        Ok(())
    }

    fn make_folder(&self, path: &str) -> Result<(), UnpackError> {
        let Some(destination) = self.destination else {
            return Ok(());
        };
        std::fs::DirBuilder::new()
            .mode(0o755)
            .create(destination.join(path))
            .map_err(|source| write_failed(path, source))
    }

    fn create(&self, path: &str, executable: bool) -> Result<Option<File>, UnpackError> {
        let Some(destination) = self.destination else {
            return Ok(None);
        };
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(if executable { 0o755 } else { 0o644 })
            .open(destination.join(path))
            .map(Some)
            .map_err(|source| write_failed(path, source))
    }

    fn add_file(&mut self, entry: &mut impl TarEntry, path: &str) -> Result<Seen, UnpackError> {
        let executable = entry.mode()? & 0o111 != 0;
        let announced = entry.size();
        self.spend(announced)?;
        let mut file = self.create(path, executable)?;
        let mut bytes = 0;
        loop {
            let read = entry
                .read(&mut self.buffer)
                .map_err(UnpackError::Malformed)?;
            if read == 0 {
                break;
            }
            bytes += read as u64;
            if let Some(file) = &mut file {
                file.write_all(&self.buffer[..read])
                    .map_err(|source| write_failed(path, source))?;
            }
        }
        if bytes != announced {
            let ended = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(UnpackError::Malformed(ended));
        }
        Ok(Seen::File { executable, bytes })
    }

    /// Remembers a link for the end; when nothing is written there is nothing to remember.
    fn add_link(&mut self, path: &str, target: Option<&str>) -> Result<Seen, Refusal> {
        let Some(target) = target.filter(|target| target_stays_inside(path, target)) else {
            return Err(Refusal::LinkEscapes(shown(
                target.unwrap_or("?").as_bytes(),
            )));
        };
        if target.len() > MAX_TARGET_BYTES {
            return Err(Refusal::TargetTooLong);
        }
        if self.destination.is_some() {
            self.links.push((path.to_owned(), target.to_owned()));
        }
        Ok(Seen::Link)
    }

    fn spend(&mut self, bytes: u64) -> Result<(), UnpackError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.expanded_bytes {
            return Err(UnpackError::TooLarge(self.limits.expanded_bytes));
        }
        Ok(())
    }

    /// Becomes a copy: two names of one file would let one agent's write change another path.
    fn add_hard_link(&mut self, path: &str, target: Option<&[u8]>) -> Result<Seen, HardLink> {
        let raw = target.unwrap_or_default();
        let dangles = || HardLink::Refused(Refusal::LinkDangles(shown(raw)));
        let target = self
            .plain_path(raw)
            .map_err(HardLink::Refused)?
            .ok_or_else(dangles)?;
        let Some(seen @ Seen::File { executable, bytes }) = self.seen.get(&id_of(&target)).copied()
        else {
            return Err(dangles());
        };
        self.spend(bytes).map_err(HardLink::Failed)?;
        if let Some(mut file) = self.create(path, executable).map_err(HardLink::Failed)? {
            let destination = self.destination.expect("a file was made in it");
            File::open(destination.join(&target))
                .and_then(|mut original| io::copy(&mut original, &mut file))
                .map_err(|source| HardLink::Failed(write_failed(path, source)))?;
        }
        Ok(seen)
    }

    /// Links last: until then every path on disk is a folder or a file that was made here.
    fn make_links(&self, destination: &Path) -> Result<(), UnpackError> {
        for (path, target) in &self.links {
            symlink(PathBuf::from(target), destination.join(path))
                .map_err(|source| write_failed(path, source))?;
        }
        Ok(())
    }

    fn unpacked(&self) -> Unpacked {
        Unpacked {
            entries: self.seen.len() as u64,
            bytes: self.bytes,
        }
    }
}

enum HardLink {
    Refused(Refusal),
    Failed(UnpackError),
}

/// What is needed of an entry, without its archive's type.
trait TarEntry: Read {
    fn kind(&self) -> EntryType;
    fn size(&self) -> u64;
    fn mode(&self) -> Result<u32, UnpackError>;
}

impl<R: Read> TarEntry for tar::Entry<'_, R> {
    fn kind(&self) -> EntryType {
        self.header().entry_type()
    }

    fn size(&self) -> u64 {
        tar::Entry::size(self)
    }

    fn mode(&self) -> Result<u32, UnpackError> {
        self.header().mode().map_err(UnpackError::Malformed)
    }
}

fn write_failed(path: &str, source: io::Error) -> UnpackError {
    UnpackError::Write {
        path: path.to_owned(),
        source,
    }
}

/// At most 200 characters, without control characters: it goes into messages and logs.
fn shown(raw: &[u8]) -> String {
    String::from_utf8_lossy(raw)
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .take(200)
        .collect()
}

fn special_name(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Char | EntryType::Block => "device",
        EntryType::Fifo => "FIFO",
        EntryType::GNUSparse => "sparse file",
        _ => "special file",
    }
}
