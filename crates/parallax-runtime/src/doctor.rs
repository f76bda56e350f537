//! What this machine can do for agents, and what follows from it.

use std::ffi::OsStr;
use std::path::PathBuf;

use parallax_builder::Toolchain;
use parallax_core::host::{IsolationMeans, KernelLimits};
use parallax_shim::isolation::IsolationProbe;
use serde::Serialize;

use crate::facts;
use crate::isolation::Sandbox;
use crate::limits::{DEFAULT_PIDS, Limiter};

/// The findings of [`doctor`].
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `amd64`, `arm64`.
    pub arch: String,
    /// The operating system.
    pub os: String,
    /// Thousandths of a processor.
    pub cpu_millis: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// What was tried and what worked.
    pub probe: IsolationProbe,
    /// The means that a host uses here.
    pub isolation: IsolationMeans,
    /// What that means for agents, for people.
    pub isolation_words: String,
    /// How limits are enforced: `cgroup1`, `cgroup2`, `cgroup2(cpu,pids)` (not memory), `rlimit`.
    pub limits: String,
    /// What that means for agents, for people.
    pub limits_words: String,
    /// The runtimes and package managers that were found.
    pub tools: Vec<ToolReport>,
    /// Languages that can be built here.
    pub builders: Vec<String>,
}

/// One program.
#[derive(Clone, Debug, Serialize)]
pub struct ToolReport {
    /// Its name.
    pub program: String,
    /// Its version.
    pub version: String,
    /// Where it is.
    pub path: PathBuf,
}

/// Examines this machine. Blocks while programs are asked for their versions: a second or two.
#[must_use]
pub fn doctor(tools_path: &OsStr) -> Report {
    let probe = parallax_shim::isolation::probe();
    let limiter = Limiter::detect();
    let toolchain = Toolchain::discover(tools_path);
    let means = Sandbox::means_of(&probe);
    let tools = toolchain.tools.iter().map(|tool| ToolReport {
        program: tool.kind.program().to_owned(),
        version: tool.version.clone(),
        path: tool.path.clone(),
    });
    Report {
        arch: facts::arch().to_owned(),
        os: std::env::consts::OS.to_owned(),
        cpu_millis: facts::cpu_millis(),
        memory_bytes: facts::memory_bytes(),
        isolation: means,
        isolation_words: isolation_words(means, &probe),
        limits: limiter.word(),
        limits_words: limits_words(limiter.enforced()),
        tools: tools.collect(),
        builders: toolchain
            .languages()
            .into_iter()
            .map(str::to_owned)
            .collect(),
        probe,
    }
}

fn isolation_words(means: IsolationMeans, probe: &IsolationProbe) -> String {
    match means {
        IsolationMeans::Landlock => format!(
            "agents and builds are kept apart by Landlock (version {}), which does not keep them from changing modes and times of files of this user{}",
            probe.landlock_abi,
            match probe.bubblewrap {
                Some(_) => "; --isolation bubblewrap does",
                None => "",
            }
        ),
        IsolationMeans::Bubblewrap => {
            "agents and builds are kept apart by bubblewrap; Landlock is too old here".to_owned()
        }
        IsolationMeans::Uid | IsolationMeans::None => format!(
            "nothing keeps agents apart (Landlock version {}, Linux 6.12 has the one that is needed; bubblewrap: {}): a host refuses them, unless it is started with --unsafe-no-isolation for one trusted tenant",
            probe.landlock_abi,
            probe.bubblewrap_refusal.as_deref().unwrap_or_default(),
        ),
    }
}

fn limits_words(limits: &KernelLimits) -> String {
    let mut words = match limits.to_string().as_str() {
        "rlimit" => "no cgroup can be made".to_owned(),
        word => format!("by {word}"),
    };
    words.push_str(&format!(
        ": {} ({DEFAULT_PIDS} processes unless a spec says otherwise)",
        limits.words()
    ));
    if !limits.memory {
        words.push_str(
            "; memory is looked at every second, and a replica that uses more than it may is killed",
        );
    }
    words
}
