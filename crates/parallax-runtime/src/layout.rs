//! Where a host keeps what in its folder.
//!
//! ```text
//! DATA/host.lock                          held while a host runs
//!      replicas/<rpl_…>/desired.json      what is needed to go on without the server
//!                       progress.json     restarts and crashes so far
//!                       run/{token,ca.pem}  readable by the agent
//!                       home/ tmp/        writable by the agent
//!                       <incarnation>/    the shim's folder: log, records, socket
//!      builds/<bld_…>/build.json          what was asked, how it ended
//!                     app/                the prepared revision
//!                     home/ tmp/          writable by its steps
//!                     <step>/             the shim's folder of each step
//!      cache/<ten_…>/tools/               package managers' caches
//!                     dependencies/<key>/ installed dependencies, by lockfile and tools
//!      artifacts/sha256-…                 downloaded sources, by digest
//!      trash/                             what is being removed
//! ```
//!
//! A prepared revision is made in its final place, because Python environments hold absolute paths
//! and do not survive a rename. What makes it valid is `build.json`, which is written last.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use parallax_core::id::{BuildId, ReplicaId, TenantId};

use crate::error::HostError;

/// Paths under a host's folder.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes the folders that are missing, all with mode 0700.
    ///
    /// # Errors
    /// When one cannot be made.
    pub(crate) fn create(root: &Path) -> Result<Self, HostError> {
        make_private(root)?;
        let root = root
            .canonicalize()
            .map_err(HostError::io("resolve", root))?;
        let layout = Self { root };
        for dir in [
            layout.replicas(),
            layout.builds(),
            layout.root.join("cache"),
            layout.artifacts(),
            layout.trash(),
        ] {
            make_private(&dir)?;
        }
        Ok(layout)
    }

    /// The paths of a folder that may not exist.
    pub(crate) fn of(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn lock_file(&self) -> PathBuf {
        self.root.join("host.lock")
    }

    pub(crate) fn replicas(&self) -> PathBuf {
        self.root.join("replicas")
    }

    pub(crate) fn builds(&self) -> PathBuf {
        self.root.join("builds")
    }

    pub(crate) fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// What package managers keep for a tenant; its build steps write there.
    pub(crate) fn cache(&self, tenant: TenantId) -> PathBuf {
        self.root
            .join("cache")
            .join(tenant.to_string())
            .join("tools")
    }

    /// Installed dependencies that the host keeps for a tenant; no step reaches them.
    pub(crate) fn dependencies(&self, tenant: TenantId) -> PathBuf {
        self.root
            .join("cache")
            .join(tenant.to_string())
            .join("dependencies")
    }

    pub(crate) fn replica(&self, id: ReplicaId) -> ReplicaDir {
        ReplicaDir(self.replicas().join(id.to_string()))
    }

    pub(crate) fn build(&self, id: BuildId) -> BuildDir {
        BuildDir(self.builds().join(id.to_string()))
    }

    /// Every replica that has a folder here.
    pub(crate) fn replica_ids(&self) -> io::Result<Vec<ReplicaId>> {
        ids(&self.replicas())
    }

    /// Every build that has a folder here.
    pub(crate) fn build_ids(&self) -> io::Result<Vec<BuildId>> {
        ids(&self.builds())
    }
}

/// The folder of one replica.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaDir(PathBuf);

impl ReplicaDir {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn desired(&self) -> PathBuf {
        self.0.join("desired.json")
    }

    pub(crate) fn progress(&self) -> PathBuf {
        self.0.join("progress.json")
    }

    /// A folder of its own because its files are replaced by rename: a sandbox that names the
    /// files themselves would keep the old ones.
    pub(crate) fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    pub(crate) fn token(&self) -> PathBuf {
        self.run().join("token")
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.run().join("ca.pem")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.0.join("home")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.0.join("tmp")
    }

    pub(crate) fn incarnation(&self, number: u64) -> PathBuf {
        self.0.join(number.to_string())
    }
}

/// The folder of one build.
#[derive(Clone, Debug)]
pub(crate) struct BuildDir(PathBuf);

impl BuildDir {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("build.json")
    }

    pub(crate) fn app(&self) -> PathBuf {
        self.0.join("app")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.0.join("home")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.0.join("tmp")
    }

    pub(crate) fn step(&self, number: u64) -> PathBuf {
        self.0.join(number.to_string())
    }
}

/// The numbered folders (incarnations, steps) in a folder, ascending. None when it is missing.
pub(crate) fn numbered(dir: &Path) -> io::Result<Vec<u64>> {
    let mut found: Vec<u64> = names(dir)?
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// Makes a folder, and those above it, that only the host's user may enter.
pub(crate) fn make_private(dir: &Path) -> Result<(), HostError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(HostError::io("create", dir))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
        .map_err(HostError::io("restrict", dir))
}

/// Removes a folder with all it holds; one that is not there is no error.
pub(crate) fn remove_tree(dir: &Path) -> Result<(), HostError> {
    match fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(HostError::io("remove", dir)(source)),
    }
}

/// Removes a file; one that is not there is no error.
pub(crate) fn remove_file(path: &Path) -> Result<(), HostError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(HostError::io("remove", path)(source)),
    }
}

fn ids<T: std::str::FromStr>(dir: &Path) -> io::Result<Vec<T>> {
    Ok(names(dir)?
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect())
}

/// The names of what is in a folder; none when it is missing.
pub(crate) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}
