//! From a folder to an archive, and from an archive to a prepared revision directory.
//!
//! Nothing here starts a process: the host runs a plan's steps in its sandbox, between
//! [`Revision::begin`] and [`Revision::commit`].
//!
//! What is packed: everything but [`DEFAULT_EXCLUDES`], or, where the folder has a
//! [`IGNORE_FILE`], everything but what that names (and `.git`). `.gitignore` is deliberately not
//! asked: vendored and generated files that git ignores are often what an agent needs.

mod cache;
mod digest;
mod error;
mod exclude;
mod limits;
mod pack;
mod program;
mod revision;
mod unpack;
mod venv;

pub use cache::cache_key;
pub use digest::{TreeDigest, digest_folder};
pub use error::{PackError, Refusal, UnpackError};
pub use exclude::{DEFAULT_EXCLUDES, Excludes, IGNORE_FILE};
pub use limits::Limits;
pub use pack::{Packed, pack};
pub use program::{resolve_program, search_path};
pub use revision::{Revision, RevisionError};
pub use unpack::{Unpacked, inspect, unpack};
pub use venv::relocate_venv;

#[cfg(test)]
mod tests;
