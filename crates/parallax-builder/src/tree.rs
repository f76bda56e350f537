//! Reading a source folder with bounds, and never outside it.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The largest file that detection reads: lockfiles of large workspaces are a few MiB.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// The most entries of one folder that detection lists.
const MAX_LISTED: usize = 10_000;

/// Why a part of the source could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The folder itself cannot be opened.
    #[error("cannot open the source folder {}", path.display())]
    Open {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A path, or a symbolic link on it, leads out of the source.
    #[error("`{path}` leads out of the source folder; an agent may use only files inside its own")]
    Escapes {
        /// The path in the source.
        path: String,
    },
    /// A file is larger than detection reads.
    #[error("`{path}` is larger than {} MiB", MAX_FILE_BYTES >> 20)]
    TooLarge {
        /// The path in the source.
        path: String,
    },
    /// A file is not text.
    #[error("`{path}` is not UTF-8 text")]
    NotText {
        /// The path in the source.
        path: String,
    },
    /// Reading failed.
    #[error("cannot read `{path}`")]
    Read {
        /// The path in the source.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A source folder. Paths are relative, with `/`; `.` is the folder itself.
///
/// The folder must not change while it is read: it is the caller's own, or was unpacked by us.
#[derive(Debug, Clone)]
pub struct SourceTree {
    root: PathBuf,
}

impl SourceTree {
    /// Opens a folder.
    ///
    /// # Errors
    /// When it does not exist or is no folder.
    pub fn open(folder: &Path) -> Result<Self, TreeError> {
        let failed = |source| TreeError::Open {
            path: folder.to_owned(),
            source,
        };
        let root = folder.canonicalize().map_err(failed)?;
        if !root.is_dir() {
            return Err(failed(io::Error::from(io::ErrorKind::NotADirectory)));
        }
        Ok(Self { root })
    }

    /// The folder, with links resolved.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file's text; `None` when there is no such file.
    ///
    /// # Errors
    /// When it leads out of the source, is too large, or is no text.
    pub fn read(&self, path: &str) -> Result<Option<String>, TreeError> {
        let Some(real) = self.resolve(path)?.filter(|real| real.is_file()) else {
            return Ok(None);
        };
        let failed = |source| TreeError::Read {
            path: path.to_owned(),
            source,
        };
        let file = std::fs::File::open(&real).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(TreeError::TooLarge {
                path: path.to_owned(),
            });
        }
        let text = String::from_utf8(bytes).map_err(|_| TreeError::NotText {
            path: path.to_owned(),
        })?;
        // Editors on Windows begin files with a byte order mark, which no parser of ours expects.
        Ok(Some(match text.strip_prefix('\u{feff}') {
            Some(rest) => rest.to_owned(),
            None => text,
        }))
    }

    /// Whether `path` is a file inside the source.
    #[must_use]
    pub fn is_file(&self, path: &str) -> bool {
        matches!(self.resolve(path), Ok(Some(real)) if real.is_file())
    }

    /// Whether `path` is a folder inside the source.
    #[must_use]
    pub fn is_dir(&self, path: &str) -> bool {
        matches!(self.resolve(path), Ok(Some(real)) if real.is_dir())
    }

    /// The names in a folder, sorted; none when there is no such folder. Names that are not UTF-8
    /// are left out: nothing that detection looks for is called so.
    ///
    /// # Errors
    /// When it leads out of the source or cannot be listed.
    pub fn list(&self, path: &str) -> Result<Vec<String>, TreeError> {
        let Some(real) = self.resolve(path)?.filter(|real| real.is_dir()) else {
            return Ok(Vec::new());
        };
        let failed = |source| TreeError::Read {
            path: path.to_owned(),
            source,
        };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(real).map_err(failed)?.take(MAX_LISTED) {
            let entry = entry.map_err(failed)?;
            names.extend(entry.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    /// The real path of `path`; `None` when nothing is there.
    fn resolve(&self, path: &str) -> Result<Option<PathBuf>, TreeError> {
        let escapes = || TreeError::Escapes {
            path: path.to_owned(),
        };
        let normal = join(".", path).ok_or_else(escapes)?;
        match self.root.join(&normal).canonicalize() {
            Ok(real) if real.starts_with(&self.root) => Ok(Some(real)),
            Ok(_) => Err(escapes()),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(source) => Err(TreeError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }
}

/// `path`, which is relative to the folder `base`, relative to the source instead, without `.` and
/// `..`; `None` when it is absolute or leads out of the source.
#[must_use]
pub fn join(base: &str, path: &str) -> Option<String> {
    if path.starts_with('/') || path.contains('\0') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(if parts.is_empty() {
        ".".to_owned()
    } else {
        parts.join("/")
    })
}

/// The way from the folder `from` to `to`, both relative to the source and normal: `../x`.
#[must_use]
pub fn relative(from: &str, to: &str) -> String {
    let parts = |path: &str| -> Vec<String> {
        let named = |part: &&str| *part != "." && !part.is_empty();
        path.split('/').filter(named).map(str::to_owned).collect()
    };
    let (from, to) = (parts(from), parts(to));
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let mut way: Vec<String> = vec!["..".to_owned(); from.len() - common];
    way.extend_from_slice(&to[common..]);
    if way.is_empty() {
        ".".to_owned()
    } else {
        way.join("/")
    }
}

#[cfg(test)]
mod tests;
