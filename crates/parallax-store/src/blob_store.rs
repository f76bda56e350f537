//! Large values by digest, in a folder.
//!
//! ```text
//! ROOT/ten_…/sha256/ab/cd/abcd…   whole and immutable: renamed into place after a flush
//! ROOT/ten_…/incoming/…           being written; what a crash left goes at the next start
//! ```
//!
//! Each tenant has a folder of its own, so that none can learn from a digest what another has.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parallax_core::blob::BlobDigest;
use parallax_core::error::{Code, Error};
use parallax_core::id::TenantId;
use sha2::{Digest as _, Sha256};
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;

/// Why a blob could not be stored or read. Nothing is left of one that could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("larger than the limit of {limit_bytes} bytes")]
    TooLarge { limit_bytes: u64 },
    #[error("what was sent has the digest {found}, not {expected}; send it again")]
    DigestMismatch {
        expected: BlobDigest,
        found: BlobDigest,
    },
    #[error("the disk with the data is full; free some space and try again")]
    StorageFull(#[source] io::Error),
    #[error("{what} {}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl From<BlobError> for Error {
    fn from(error: BlobError) -> Self {
        let code = match &error {
            BlobError::TooLarge { .. } => Code::TooLarge,
            BlobError::DigestMismatch { .. } => Code::InvalidRequest,
            BlobError::StorageFull(_) => Code::StorageFull,
            BlobError::Io { .. } => return Self::internal(error),
        };
        Self::new(code, error.to_string()).caused_by(error)
    }
}

/// A blob that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub digest: BlobDigest,
    pub size_bytes: u64,
}

/// A folder of blobs, written by this server alone. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BlobStore {
    root: Arc<Path>,
    /// Names what is being written; unique because the folder has one server.
    next: Arc<AtomicU64>,
}

impl BlobStore {
    /// Opens the folder, creates it (0700) if it is missing, and removes what a crash left behind
    /// half written. The store's lock must be held, so that nobody else is writing.
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self, BlobError> {
        let root: PathBuf = root.into();
        create_folder(&root).await?;
        let mut tenants = fs::read_dir(&root)
            .await
            .map_err(failed("cannot list", &root))?;
        while let Some(tenant) = tenants
            .next_entry()
            .await
            .map_err(failed("cannot list", &root))?
        {
            let is_folder = tenant.file_type().await.is_ok_and(|kind| kind.is_dir());
            let name = tenant.file_name();
            let id = name.to_str().and_then(|name| name.parse::<TenantId>().ok());
            if id.is_none() || !is_folder {
                tracing::warn!(
                    path = %tenant.path().display(),
                    "left alone: it is no tenant's folder, and nothing else belongs among the blobs"
                );
                continue;
            }
            let incoming = tenant.path().join("incoming");
            match fs::remove_dir_all(&incoming).await {
                Err(error) if !is_missing(&error) => {
                    return Err(failed("cannot clear", &incoming)(error));
                }
                _ => {}
            }
        }
        Ok(Self {
            root: root.into(),
            next: Arc::default(),
        })
    }

    /// Begins a blob of at most `limit_bytes`.
    pub async fn put(&self, tenant: TenantId, limit_bytes: u64) -> Result<BlobWriter, BlobError> {
        let folder = self.tenant(tenant).join("incoming");
        create_folder(&folder).await?;
        let path = folder.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .await;
        let file = file.map_err(failed("cannot create", &path))?;
        Ok(BlobWriter {
            file,
            incoming: Incoming(path),
            tenant_folder: self.tenant(tenant),
            hash: Sha256::new(),
            size_bytes: 0,
            limit_bytes,
        })
    }

    /// Makes a folder (0700) for files that nobody needs for long.
    pub async fn scratch(&self, tenant: TenantId) -> Result<Scratch, BlobError> {
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let path = self.tenant(tenant).join("incoming").join(name);
        create_folder(&path).await?;
        Ok(Scratch(path))
    }

    /// Opens a blob of the tenant's for reading; `None` if it has none with this digest.
    pub async fn get(
        &self,
        tenant: TenantId,
        digest: &BlobDigest,
    ) -> Result<Option<File>, BlobError> {
        let path = place(&self.tenant(tenant), digest);
        match File::open(&path).await {
            Ok(file) => Ok(Some(file)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(failed("cannot open", &path)(error)),
        }
    }

    /// The size in bytes of a blob of the tenant's.
    pub async fn size(
        &self,
        tenant: TenantId,
        digest: &BlobDigest,
    ) -> Result<Option<u64>, BlobError> {
        let path = place(&self.tenant(tenant), digest);
        match fs::metadata(&path).await {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(failed("cannot look at", &path)(error)),
        }
    }

    /// Deletes a blob of the tenant's; whether there was one. Who has it open goes on reading it.
    pub async fn delete(&self, tenant: TenantId, digest: &BlobDigest) -> Result<bool, BlobError> {
        let path = place(&self.tenant(tenant), digest);
        match fs::remove_file(&path).await {
            Ok(()) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(failed("cannot delete", &path)(error)),
        }
    }

    /// When a blob of the tenant's was last put in place; `None` if there is none.
    pub async fn put_at(
        &self,
        tenant: TenantId,
        digest: &BlobDigest,
    ) -> Result<Option<SystemTime>, BlobError> {
        let path = place(&self.tenant(tenant), digest);
        let looked_up = async { fs::metadata(&path).await?.modified() };
        match looked_up.await {
            Ok(at) => Ok(Some(at)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(failed("cannot look at", &path)(error)),
        }
    }

    /// The tenant's blobs whose digests begin with this byte, sorted: all of them come in 256
    /// rounds. What is no blob is passed over.
    pub async fn list(&self, tenant: TenantId, first: u8) -> Result<Vec<BlobDigest>, BlobError> {
        let shard = self
            .tenant(tenant)
            .join("sha256")
            .join(format!("{first:02x}"));
        let mut found: Vec<BlobDigest> = Vec::new();
        for folder in names(&shard).await? {
            let path = shard.join(&folder);
            for name in names(&path).await? {
                let digest = format!("{}{name}", BlobDigest::PREFIX).parse();
                let in_place =
                    |digest: &BlobDigest| place(&self.tenant(tenant), digest) == path.join(&name);
                found.extend(digest.ok().filter(in_place));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Bytes that are left for blobs on their disk.
    ///
    /// # Errors
    /// When the disk does not say.
    pub fn room_bytes(&self) -> Result<u64, BlobError> {
        let disk = rustix::fs::statvfs(&*self.root).map_err(|error| BlobError::Io {
            what: "cannot look at the disk of",
            path: self.root.to_path_buf(),
            source: error.into(),
        })?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn tenant(&self, tenant: TenantId) -> PathBuf {
        self.root.join(tenant.to_string())
    }
}

/// A blob under way. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    file: File,
    incoming: Incoming,
    tenant_folder: PathBuf,
    hash: Sha256,
    size_bytes: u64,
    limit_bytes: u64,
}

impl BlobWriter {
    /// Appends `chunk`.
    pub async fn write(&mut self, chunk: &[u8]) -> Result<(), BlobError> {
        self.size_bytes += chunk.len() as u64;
        if self.size_bytes > self.limit_bytes {
            return Err(BlobError::TooLarge {
                limit_bytes: self.limit_bytes,
            });
        }
        self.hash.update(chunk);
        let written = self.file.write_all(chunk).await;
        written.map_err(failed("cannot write", &self.incoming.0))
    }

    /// What was written so far, for reading: a blob can be looked at before it is put in place.
    pub async fn reader(&mut self) -> Result<std::fs::File, BlobError> {
        let path = &self.incoming.0;
        // The file's writes go through a thread: only a flush tells of the last one's failure.
        self.file
            .flush()
            .await
            .map_err(failed("cannot write", path))?;
        let opened = File::open(path).await;
        Ok(opened
            .map_err(failed("cannot open", path))?
            .into_std()
            .await)
    }

    /// The digest of what was written so far, and how many bytes that is.
    #[must_use]
    pub fn written(&self) -> Stored {
        Stored {
            digest: digest_of(self.hash.clone()),
            size_bytes: self.size_bytes,
        }
    }

    /// Flushes the blob to the disk and puts it in place under its digest, which must be
    /// `expected` if that is given. After this returns, the blob survives a crash.
    pub async fn finish(mut self, expected: Option<&BlobDigest>) -> Result<Stored, BlobError> {
        let found = digest_of(self.hash);
        if let Some(expected) = expected.filter(|&expected| *expected != found) {
            return Err(BlobError::DigestMismatch {
                expected: expected.clone(),
                found,
            });
        }
        let incoming = &self.incoming.0;
        // The file's writes go through a thread: only a flush tells of the last one's failure.
        self.file
            .flush()
            .await
            .map_err(failed("cannot write", incoming))?;
        self.file
            .sync_all()
            .await
            .map_err(failed("cannot flush", incoming))?;
        let path = place(&self.tenant_folder, &found);
        let folder = path.parent().unwrap_or(&path);
        create_folder(folder).await?;
        fs::rename(incoming, &path)
            .await
            .map_err(failed("cannot create", &path))?;
        // Each level may be new, and a name is durable only once its folder was flushed.
        for level in path.ancestors().skip(1).take(4) {
            sync_folder(level).await?;
        }
        Ok(Stored {
            digest: found,
            size_bytes: self.size_bytes,
        })
    }
}

/// The file of an unfinished blob; removed when dropped. After the rename nothing has its name.
#[derive(Debug)]
struct Incoming(PathBuf);

impl Drop for Incoming {
    fn drop(&mut self) {
        // What cannot be removed now is removed at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A folder that goes with everything in it when this is dropped, which takes a while: drop it
/// where waiting for the disk is no harm.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed at the next start.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn digest_of(hash: Sha256) -> BlobDigest {
    BlobDigest::of_sha256(hash.finalize().into())
}

fn place(tenant_folder: &Path, digest: &BlobDigest) -> PathBuf {
    let hex = digest.hex();
    tenant_folder
        .join("sha256")
        .join(&hex[..2])
        .join(&hex[2..4])
        .join(hex)
}

/// The names in a folder that are text; none when there is no such folder.
async fn names(folder: &Path) -> Result<Vec<String>, BlobError> {
    let read = async {
        let mut entries = fs::read_dir(folder).await?;
        let mut names = Vec::new();
        while let Some(entry) = entries.next_entry().await? {
            names.extend(entry.file_name().into_string());
        }
        Ok(names)
    };
    match read.await {
        Err(error) if is_missing(&error) || error.kind() == io::ErrorKind::NotADirectory => {
            Ok(Vec::new())
        }
        read => read.map_err(failed("cannot list", folder)),
    }
}

async fn create_folder(path: &Path) -> Result<(), BlobError> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .await;
    made.map_err(failed("cannot create", path))
}

async fn sync_folder(path: &Path) -> Result<(), BlobError> {
    let synced = async { File::open(path).await?.sync_all().await }.await;
    synced.map_err(failed("cannot flush", path))
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BlobError::StorageFull(source),
        _ => BlobError::Io {
            what,
            path: path.to_owned(),
            source,
        },
    }
}

#[cfg(test)]
mod tests;
