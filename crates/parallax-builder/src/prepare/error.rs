//! Why an archive could not be made or unpacked.

use std::io;
use std::path::PathBuf;

/// Why one entry of an archive is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An absolute path.
    #[error("its path is absolute")]
    Absolute,
    /// `..` in the path.
    #[error("its path contains `..`")]
    Climbs,
    /// An empty path, a NUL byte, or text that is not UTF-8.
    #[error("its path is empty or not valid text")]
    BadPath,
    /// Longer or deeper than the limits.
    #[error("its path is too long or too deep")]
    PathTooLong,
    /// A device, a FIFO or another kind of file that source code has no use for.
    #[error("it is a {0}, and only files, folders and links are accepted")]
    Special(&'static str),
    /// A link to outside.
    #[error("it is a link that leads out of the archive (to `{0}`)")]
    LinkEscapes(String),
    /// A link to a path that is longer than any can be.
    #[error("it is a link to a path that is too long")]
    TargetTooLong,
    /// A hard link to what is not an earlier file of the archive.
    #[error("it is a hard link to `{0}`, which is no earlier file of the archive")]
    LinkDangles(String),
    /// Something with the same path came before.
    #[error("something with the same path came before")]
    Duplicate,
    /// A part of its path is a file or a link.
    #[error("`{0}`, a part of its path, is not a folder")]
    ThroughNonFolder(String),
}

/// Why an archive could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive is not what it claims to be, or ends early.
    #[error("the archive is damaged or not a tar.gz")]
    Malformed(#[source] io::Error),
    /// A header that this reader does not follow.
    #[error("the archive is damaged: {0}")]
    BadHeader(&'static str),
    /// An entry is unsafe.
    #[error("`{path}` in the archive is refused: {refusal}")]
    Entry {
        /// The entry.
        path: String,
        /// Why.
        #[source]
        refusal: Refusal,
    },
    /// More entries than allowed.
    #[error("the archive holds more than {0} entries")]
    TooManyEntries(u64),
    /// More bytes than allowed.
    #[error("the archive expands to more than {0} bytes")]
    TooLarge(u64),
    /// Longer paths than allowed, all together.
    #[error("the paths in the archive are longer than {0} bytes together")]
    PathsTooLong(u64),
    /// The destination must be an empty folder.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// Writing failed: the disk may be full.
    #[error("cannot write `{path}`")]
    Write {
        /// The entry.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why a folder could not be packed or digested.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file or folder cannot be read, or vanished meanwhile.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A link out of the folder.
    #[error(
        "{} is a link that leads out of the folder (to {}): copy what it points to, or exclude it \
         in .parallaxignore", path.display(), target.display()
    )]
    LinkEscapes {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A socket, FIFO or device.
    #[error("{} is neither file, folder nor link: exclude it in .parallaxignore", .0.display())]
    Special(PathBuf),
    /// A name that is not UTF-8.
    #[error("{} is not valid text: rename it, or exclude it in .parallaxignore", .0.display())]
    BadName(PathBuf),
    /// A file grew or shrank while it was read.
    #[error("{} changed while it was read: try again", .0.display())]
    Changed(PathBuf),
    /// `.parallaxignore` has a line that is no pattern.
    #[error("a line of .parallaxignore is no pattern")]
    BadPattern(#[source] ignore::Error),
    /// More than the server would take.
    #[error(
        "the folder holds more than {entries} entries, {bytes} bytes, or {paths_bytes} bytes of paths: exclude what is not needed in .parallaxignore"
    )]
    TooLarge {
        /// The limit on entries.
        entries: u64,
        /// The limit on bytes.
        bytes: u64,
        /// The limit on the lengths of all paths together.
        paths_bytes: u64,
    },
    /// The archive could not be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}
