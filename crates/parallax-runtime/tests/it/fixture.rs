//! A host in a temporary folder, and things for it to run.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use parallax_core::host::IsolationMeans;
use parallax_core::id::{AgentId, BuildId, ReplicaId, RevisionId, TenantId};
use parallax_core::manifest::{AgentSpec, BuildSpec, RunSpec};
use parallax_core::time::Timestamp;
use parallax_proto::v1::{DesiredBuild, DesiredReplica, desired_replica};
use parallax_runtime::{CredentialSource, Host, HostConfig, HostError, Stop};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::plane::{CREDENTIAL, Plane};

static NEXT: AtomicU8 = AtomicU8::new(1);

fn entropy() -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[0] = NEXT.fetch_add(1, Ordering::Relaxed);
    let pid = std::process::id().to_be_bytes();
    bytes[1..5].copy_from_slice(&pid);
    bytes
}

fn born() -> Timestamp {
    Timestamp::from_unix_millis(1_790_000_000_000)
}

pub(crate) fn tenant(number: u8) -> TenantId {
    TenantId::new(born(), [number; 10])
}

pub(crate) fn new_replica() -> String {
    ReplicaId::new(born(), entropy()).to_string()
}

pub(crate) fn new_build() -> String {
    BuildId::new(born(), entropy()).to_string()
}

/// A host's folder, its control plane, and the app that its replicas run.
pub(crate) struct World {
    pub(crate) plane: Plane,
    pub(crate) dir: TempDir,
    pub(crate) build: String,
    pub(crate) spec: RunSpec,
    /// The means that its host was told to take.
    pub(crate) means: Option<IsolationMeans>,
}

impl World {
    /// A control plane and an empty folder.
    pub(crate) async fn empty() -> Self {
        let name = "worker".parse().expect("it is a name");
        Self {
            plane: Plane::start().await,
            dir: tempfile::tempdir().expect("a temporary folder can be made"),
            build: new_build(),
            spec: AgentSpec::named(name).run(),
            means: None,
        }
    }

    /// With a host and a prepared app whose start command tests override.
    pub(crate) async fn prepared() -> (Self, Host) {
        let world = Self::empty().await;
        let host = world.host().await;
        world.prepare().await;
        (world, host)
    }

    /// As [`World::prepared`], with this means of isolation.
    ///
    /// # Errors
    /// When this machine does not have it, with the reason.
    pub(crate) async fn behind(means: IsolationMeans) -> Result<(Self, Host), HostError> {
        let mut world = Self::empty().await;
        world.means = Some(means);
        let mut config = world.config();
        config.isolation = Some(means);
        let host = Host::start(config).await?;
        host.ready().await.expect("the host is welcome");
        world.prepare().await;
        Ok((world, host))
    }

    async fn prepare(&self) {
        let source = Source::node("setInterval(() => {}, 1000)");
        self.build(&self.build, &source).await;
        let state = self.plane.built(&self.build).await;
        assert_eq!(state.phase, "succeeded", "{}", state.message);
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("host")
    }

    pub(crate) fn config(&self) -> HostConfig {
        let credential = self.dir.path().join("credential");
        std::fs::write(&credential, CREDENTIAL).expect("a file can be written");
        let mut config = HostConfig::new(
            self.plane.url.clone(),
            self.data_dir(),
            "here".parse().expect("it is a name"),
            CredentialSource::File(credential),
            shim_program(),
            OsString::from("/usr/bin:/bin"),
        );
        config.usage_interval = Duration::from_millis(200);
        config
    }

    pub(crate) async fn host(&self) -> Host {
        let host = Host::start(self.config()).await.expect("the host starts");
        host.ready().await.expect("the host is welcome");
        host
    }

    /// Asks for a build of `source`.
    pub(crate) async fn build(&self, id: &str, source: &Source) {
        self.plane
            .put_artifact(&source.digest, source.bytes.clone());
        self.plane.want_build(source.desired(id)).await;
    }

    /// A replica that runs a shell script.
    pub(crate) fn shell(&self, id: &str, script: &str) -> DesiredReplica {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let spec = RunSpec {
            start: Some(argv),
            ..self.spec.clone()
        };
        self.replica(id, &spec)
    }

    pub(crate) fn replica(&self, id: &str, spec: &RunSpec) -> DesiredReplica {
        DesiredReplica {
            replica_id: id.to_owned(),
            tenant_id: tenant(1).to_string(),
            agent_id: AgentId::new(born(), [3; 10]).to_string(),
            agent_name: "worker".to_owned(),
            revision_id: RevisionId::new(born(), [4; 10]).to_string(),
            revision_number: 7,
            want: desired_replica::Want::Run.into(),
            build_id: self.build.clone(),
            run_spec_json: serde_json::to_vec(spec).expect("it has string keys").into(),
            token: "agent-token-1".to_owned(),
            token_expires_unix_ms: 0,
            server_url: self.plane.url.clone(),
            ca_pem: Vec::new().into(),
            stop_grace_ms: 3000,
        }
    }

    pub(crate) fn replica_dir(&self, id: &str) -> PathBuf {
        self.data_dir().join("replicas").join(id)
    }

    /// Stops everything and checks that nothing is left.
    pub(crate) async fn end(self, host: Host) {
        let deadline = Duration::from_secs(20);
        host.stop(Stop::StopAll { deadline })
            .await
            .expect("everything ends");
        self.assert_nothing_runs();
    }

    pub(crate) fn assert_nothing_runs(&self) {
        let left = processes_of(&self.data_dir());
        assert!(left.is_empty(), "still running: {left:?}");
    }
}

impl Drop for World {
    /// A test that fails leaves nothing running either.
    fn drop(&mut self) {
        for process in processes_of(&self.data_dir()) {
            let pid = process.split(':').next().and_then(|pid| pid.parse().ok());
            if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
                // It may have ended by itself.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

/// Asks a replica to be stopped.
pub(crate) fn stopped(mut replica: DesiredReplica) -> DesiredReplica {
    replica.want = desired_replica::Want::Stop.into();
    replica
}

/// Where the program is that is started as the shim.
pub(crate) fn shim_program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_runtime-test-shim"))
}

/// Processes that name a folder on their command line or in their environment.
pub(crate) fn processes_of(dir: &Path) -> Vec<String> {
    let needle = dir.to_string_lossy().into_owned();
    let mut found = Vec::new();
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.parse::<u32>().is_err() || name == std::process::id().to_string() {
            continue;
        }
        let read = |file: &str| {
            // Processes end while the list is read.
            let bytes = std::fs::read(entry.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let command = read("cmdline");
        if command.contains(&needle) || read("environ").contains(&needle) {
            found.push(format!("{name}: {command}"));
        }
    }
    found
}

/// Waits until no process of a folder runs.
pub(crate) async fn all_gone(dir: &Path) {
    eventually("every process is gone", || processes_of(dir).is_empty()).await;
}

/// Waits until a condition holds that no frame announces.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + crate::plane::PATIENCE;
    while !holds() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited in vain: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A source archive.
pub(crate) struct Source {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: String,
    pub(crate) spec: BuildSpec,
    pub(crate) deadline_ms: u64,
}

impl Source {
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive
                .append_data(&mut header, path, content.as_bytes())
                .expect("writing to memory does not fail");
        }
        let bytes = archive
            .into_inner()
            .and_then(GzEncoder::finish)
            .expect("writing to memory does not fail");
        let hash = Sha256::digest(&bytes);
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            bytes,
            digest: format!("sha256:{hex}"),
            spec: AgentSpec::named("worker".parse().expect("it is a name")).build(),
            deadline_ms: 60_000,
        }
    }

    /// An agent of one file without dependencies.
    pub(crate) fn node(code: &str) -> Self {
        Self::of(&[
            (
                "package.json",
                r#"{"name":"worker","version":"1.0.0","scripts":{"start":"node index.js"}}"#,
            ),
            ("index.js", code),
        ])
    }

    /// An agent whose build runs a script.
    pub(crate) fn with_build_script(script: &str) -> Self {
        let package = serde_json::json!({
            "name": "worker",
            "version": "1.0.0",
            "scripts": {"build": "node build.js", "start": "node dist/index.js"},
        });
        Self::of(&[("package.json", &package.to_string()), ("build.js", script)])
    }

    pub(crate) fn desired(&self, id: &str) -> DesiredBuild {
        DesiredBuild {
            build_id: id.to_owned(),
            tenant_id: tenant(1).to_string(),
            agent_name: "worker".to_owned(),
            source_digest: self.digest.clone(),
            source_bytes: self.bytes.len() as u64,
            build_spec_json: serde_json::to_vec(&self.spec)
                .expect("it has string keys")
                .into(),
            cancel: false,
            deadline_ms: self.deadline_ms,
        }
    }
}

/// The environment of a replica's process, as the kernel has it.
pub(crate) fn environment(pid: u32) -> BTreeMap<String, String> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).expect("the process runs");
    bytes
        .split(|byte| *byte == 0)
        .filter_map(|entry| {
            let entry = String::from_utf8_lossy(entry).into_owned();
            let (name, value) = entry.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        })
        .collect()
}
