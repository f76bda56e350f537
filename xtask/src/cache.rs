//! What is expensive to make again lives outside the checkout, keyed by the content it came from.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::config::Config;

/// Folders that tools write beside sources; they are never part of a content hash.
const MADE: [&str; 7] = [
    "node_modules",
    "dist",
    "build",
    "__pycache__",
    ".venv",
    ".pytest_cache",
    ".mypy_cache",
];

/// Long enough for a branch that waits for its review.
const KEEP_UNUSED: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The cache folder of this person on this machine.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// The first usable of `$PARALLAX_CACHE_DIR`, `$XDG_CACHE_HOME/parallax`,
    /// `$HOME/.cache/parallax` and a folder in the temporary directory.
    ///
    /// # Errors
    /// A folder that the caller named and that cannot be written is an error, not a detour.
    pub fn open(config: &Config) -> Result<Self> {
        if let Some(dir) = &config.cache_dir {
            create(dir).with_context(|| {
                format!(
                    "PARALLAX_CACHE_DIR={}: not a writable folder",
                    dir.display()
                )
            })?;
            return Ok(Self { dir: dir.clone() });
        }
        let xdg = config
            .xdg_cache_home
            .as_ref()
            .map(|dir| dir.join("parallax"));
        let home = config.home.as_ref().map(|dir| dir.join(".cache/parallax"));
        let uid = rustix::process::getuid().as_raw();
        let temporary = std::env::temp_dir().join(format!("parallax-cache-{uid}"));
        for dir in xdg.into_iter().chain(home) {
            if create(&dir).is_ok() {
                return Ok(Self { dir });
            }
        }
        create(&temporary).with_context(|| {
            format!(
                "no cache folder is writable, not even {}",
                temporary.display()
            )
        })?;
        owned_by(&temporary, uid)?;
        Ok(Self { dir: temporary })
    }

    /// A path below the cache; nothing is created.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes `name` once: `make` fills the folder, and only a finished one is used again.
    ///
    /// Two runs at once wait for each other on a lock file beside the folder.
    pub fn once(&self, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let dir = self.path(name);
        let _lock = self.lock(name)?;
        let complete = dir.join(".complete");
        if complete.exists() {
            // Its time says when it was last of use; see `prune`.
            File::options()
                .append(true)
                .open(&complete)
                .and_then(|mut file| file.write_all(b"."))
                .with_context(|| format!("marking {} as used", dir.display()))?;
            return Ok(dir);
        }
        if dir.exists() {
            fs::remove_dir_all(&dir)
                .with_context(|| format!("clearing the unfinished {}", dir.display()))?;
        }
        create(&dir).with_context(|| format!("creating {}", dir.display()))?;
        make(&dir)?;
        fs::write(&complete, "")?;
        Ok(dir)
    }

    /// Removes what [`once`](Self::once) made below `parent` and nobody used for a while: each
    /// change of an SDK makes new environments and leaves the old ones behind.
    pub fn prune(&self, parent: &str) -> Result<()> {
        let parent = self.path(parent);
        let entries = match fs::read_dir(&parent) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.with_context(|| format!("reading {}", parent.display()))?,
        };
        for entry in entries {
            let dir = entry?.path();
            let Ok(used) = fs::metadata(dir.join(".complete")).and_then(|mark| mark.modified())
            else {
                continue;
            };
            // A time in the future, after the clock was set back, counts as just used.
            if used.elapsed().unwrap_or(Duration::ZERO) > KEEP_UNUSED {
                fs::remove_dir_all(&dir)
                    .with_context(|| format!("removing the unused {}", dir.display()))?;
            }
        }
        Ok(())
    }

    /// Excludes other runs from `name` until the file is dropped.
    pub fn lock(&self, name: &str) -> Result<File> {
        let path = self.path(&format!("{}.lock", name.replace('/', "-")));
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        file.lock()
            .with_context(|| format!("locking {}", path.display()))?;
        Ok(file)
    }
}

fn create(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    // Existing is not enough: a read-only home has folders too.
    let probe = dir.join(format!(".probe-{}", std::process::id()));
    fs::write(&probe, "")?;
    fs::remove_file(&probe)
}

/// In a shared temporary directory someone else may have made the folder first.
fn owned_by(dir: &Path, uid: u32) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let owner = fs::symlink_metadata(dir)?.uid();
    if owner == uid {
        return Ok(());
    }
    bail!(
        "{} belongs to uid {owner}, not to you; set PARALLAX_CACHE_DIR to a folder of your own",
        dir.display()
    )
}

/// A short hash over the names and contents of files and folders; what is missing counts as such.
pub fn content_hash(paths: &[PathBuf]) -> Result<String> {
    let mut hasher = Sha256::new();
    for path in paths {
        add(&mut hasher, path, Path::new(""))?;
    }
    let digest = hasher.finalize();
    Ok(digest[..10]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn add(hasher: &mut Sha256, path: &Path, shown: &Path) -> Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            hasher.update(b"missing\0");
            return Ok(());
        }
        Err(error) => return Err(error).context(format!("reading {}", path.display())),
    };
    if metadata.is_dir() {
        let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            if !MADE.iter().any(|made| name == *made) {
                add(hasher, &entry.path(), &shown.join(&name))?;
            }
        }
        return Ok(());
    }
    let content = if metadata.is_symlink() {
        fs::read_link(path)?.into_os_string().into_encoded_bytes()
    } else {
        fs::read(path).with_context(|| format!("reading {}", path.display()))?
    };
    hasher.update(shown.as_os_str().as_encoded_bytes());
    hasher.update(format!("\0{}\0", content.len()));
    hasher.update(content);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    #[test]
    fn an_unusable_home_falls_back_to_the_temporary_directory() {
        let home = temporary();
        let file = home.path().join("file");
        fs::write(&file, "").expect("a file");
        let config = Config {
            home: Some(file),
            ..Config::default()
        };
        let cache = Cache::open(&config).expect("the temporary directory is writable");
        assert!(cache.dir.starts_with(std::env::temp_dir()), "{cache:?}");
    }

    #[test]
    fn a_named_cache_that_cannot_be_written_is_an_error() {
        let dir = temporary();
        let file = dir.path().join("file");
        fs::write(&file, "").expect("a file");
        let config = Config {
            cache_dir: Some(file),
            ..Config::default()
        };
        Cache::open(&config).expect_err("a file is not a folder");
    }

    #[test]
    fn what_did_not_finish_is_made_again() {
        let dir = temporary();
        let cache = Cache {
            dir: dir.path().to_owned(),
        };
        let failed = cache.once("thing", |dir| {
            fs::write(dir.join("half"), "")?;
            bail!("the network went away")
        });
        failed.expect_err("the maker failed");
        let made = cache.once("thing", |dir| {
            assert!(!dir.join("half").exists());
            Ok(fs::write(dir.join("whole"), "")?)
        });
        made.expect("the second attempt succeeds");
        let again = cache.once("thing", |_| bail!("not needed"));
        assert!(again.expect("it is there").join("whole").exists());
    }

    #[test]
    fn what_nobody_used_for_weeks_is_removed() {
        let dir = temporary();
        let cache = Cache {
            dir: dir.path().to_owned(),
        };
        let make = |name: &str| cache.once(name, |_| Ok(())).expect("it is made");
        let (old, fresh) = (make("venv-old"), make("venv-fresh"));
        let mark = File::options().write(true).open(old.join(".complete"));
        let made = fresh.metadata().and_then(|found| found.modified());
        let long_ago = made.expect("a time") - KEEP_UNUSED - Duration::from_secs(60);
        mark.and_then(|mark| mark.set_modified(long_ago))
            .expect("a mark");
        cache.prune("").expect("the folder can be read");
        assert!(!old.exists() && fresh.exists());
    }

    #[test]
    fn the_hash_follows_names_and_contents_and_ignores_what_tools_made() {
        let dir = temporary();
        let root = dir.path().to_owned();
        let hash = || content_hash(std::slice::from_ref(&root)).expect("readable");
        fs::write(root.join("a"), "1").expect("a file");
        let first = hash();
        fs::create_dir(root.join("node_modules")).expect("a folder");
        fs::write(root.join("node_modules/x"), "1").expect("a file");
        assert_eq!(hash(), first);
        fs::rename(root.join("a"), root.join("b")).expect("a rename");
        let renamed = hash();
        assert_ne!(renamed, first);
        fs::write(root.join("b"), "2").expect("a file");
        assert_ne!(hash(), renamed);
    }
}
