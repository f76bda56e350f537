//! What a host is told at its start.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parallax_core::host::IsolationMeans;
use parallax_core::name::Name;
use parallax_proto::v1::Desired;
use parallax_shim::spec::LogLimits;

/// Everything that a [`crate::Host`] is told.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Where the control plane listens, such as `http://127.0.0.1:7400`.
    pub server_url: String,
    /// Certificates (PEM) that the control plane's may be signed by; the system's when absent.
    pub ca_pem: Option<Vec<u8>>,
    /// The host's own folder. Made with mode 0700; one host at a time.
    pub data_dir: PathBuf,
    /// The host's name within its tenant.
    pub name: Name,
    /// How the host proves who it is.
    pub credential: CredentialSource,
    /// Labels for people and for placement.
    pub labels: BTreeMap<String, String>,
    /// How many replicas the host takes.
    pub max_replicas: u32,
    /// Whether to run one tenant's agents although nothing keeps them apart from the machine.
    pub unsafe_no_isolation: bool,
    /// How to keep agents apart; the first means that works when absent.
    pub isolation: Option<IsolationMeans>,
    /// The program that is started as `PROGRAM shim DIR`.
    pub shim_program: PathBuf,
    /// Folders that no tenant's process may read, such as the server's data folder. `data_dir` is
    /// always one of them.
    pub protected_paths: Vec<PathBuf>,
    /// Where toolchains are looked for, as `PATH` has it.
    pub tools_path: OsString,
    /// Variables that build steps are given besides what the plan says, such as
    /// `NODE_EXTRA_CA_CERTS`. A value that names an existing file or folder makes it readable.
    pub build_env: BTreeMap<String, String>,
    /// The time zone of agents (`TZ`); the machine's when absent.
    pub time_zone: Option<String>,
    /// Bounds of each incarnation's log.
    pub log_limits: LogLimits,
    /// How many builds run at a time.
    pub concurrent_builds: usize,
    /// Builds that may wait; more are failed.
    pub queued_builds: usize,
    /// How long a build may take, where the server allows more.
    pub build_timeout: Option<Duration>,
    /// How often CPU and memory are sampled.
    pub usage_interval: Duration,
    /// Whether limits are enforced by cgroups, where some can be made. Without them, processes are
    /// limited by rlimits, memory by looking at what is used, and CPU is not.
    pub cgroups: bool,
    /// How long the host waits before it dials again when another one has used its credential;
    /// `None`: it does not, and [`Host::superseded`](crate::Host::superseded) says so.
    pub superseded_wait: Option<Duration>,
}

impl HostConfig {
    /// Fills in where agents dial, where the server left it to the host: where the host itself
    /// found the server.
    pub(crate) fn lead_home(&self, desired: &mut Desired) {
        for replica in desired
            .replicas
            .iter_mut()
            .filter(|replica| replica.server_url.is_empty())
        {
            replica.server_url.clone_from(&self.server_url);
            replica.ca_pem = self.ca_pem.clone().unwrap_or_default().into();
        }
    }

    /// A configuration with defaults for everything that has one.
    #[must_use]
    pub fn new(
        server_url: String,
        data_dir: PathBuf,
        name: Name,
        credential: CredentialSource,
        shim_program: PathBuf,
        tools_path: OsString,
    ) -> Self {
        Self {
            server_url,
            ca_pem: None,
            data_dir,
            name,
            credential,
            labels: BTreeMap::new(),
            max_replicas: DEFAULT_MAX_REPLICAS,
            unsafe_no_isolation: false,
            isolation: None,
            shim_program,
            protected_paths: Vec::new(),
            tools_path,
            build_env: BTreeMap::new(),
            time_zone: None,
            log_limits: LogLimits::default(),
            concurrent_builds: DEFAULT_CONCURRENT_BUILDS,
            queued_builds: DEFAULT_QUEUED_BUILDS,
            build_timeout: None,
            usage_interval: DEFAULT_USAGE_INTERVAL,
            cgroups: true,
            superseded_wait: None,
        }
    }
}

/// A laptop carries this many small agents; an operator of a larger machine says so.
const DEFAULT_MAX_REPLICAS: u32 = 256;
/// Installing dependencies keeps a machine busy: two at a time make both slow.
const DEFAULT_CONCURRENT_BUILDS: usize = 1;
/// Enough for a fleet that is deployed at once.
const DEFAULT_QUEUED_BUILDS: usize = 128;
/// Fine enough for a graph, coarse enough to cost nothing.
const DEFAULT_USAGE_INTERVAL: Duration = Duration::from_secs(5);

/// How a host proves who it is.
#[derive(Clone, PartialEq, Eq)]
pub enum CredentialSource {
    /// A file with the credential, read again at each connect so that it can be replaced, and
    /// replaced when the control plane renews it.
    File(PathBuf),
    /// A single-use token, traded for a credential that is kept in a 0600 file. When the file
    /// exists already, the token is used only once the control plane refuses what it holds.
    Join {
        /// What `parallax hosts token` printed.
        token: String,
        /// Where the credential is kept.
        keep_at: PathBuf,
    },
}

impl CredentialSource {
    /// Where the credential is kept.
    pub(crate) fn file(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Join { keep_at, .. } => keep_at,
        }
    }
}

impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Join { keep_at, .. } => f
                .debug_struct("Join")
                .field("keep_at", keep_at)
                .finish_non_exhaustive(),
        }
    }
}

/// How a host ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Replicas go on under their shims; the next host of the same folder takes them over.
    LeaveReplicas,
    /// Every replica is stopped with its own grace, and killed when `deadline` has passed. They
    /// are started again once a server asks for it.
    StopAll {
        /// How long all of it may take.
        deadline: Duration,
    },
}
