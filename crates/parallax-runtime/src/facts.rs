//! What a host says of itself, found out once at its start.

use std::collections::BTreeMap;
use std::fs;

use parallax_builder::Toolchain;
use parallax_builder::toolchain::Tool;
use parallax_core::host::IsolationMeans;
use parallax_proto::v1::{HostFacts, HostTool};

use crate::config::HostConfig;
use crate::isolation::Sandbox;
use crate::limits::Limiter;

/// The facts of this machine under `config`.
pub(crate) fn facts(
    config: &HostConfig,
    sandbox: &Sandbox,
    limiter: &Limiter,
    toolchain: &Toolchain,
) -> HostFacts {
    let means = sandbox.means();
    HostFacts {
        kind: "local".to_owned(),
        arch: arch().to_owned(),
        os: std::env::consts::OS.to_owned(),
        cpu_millis: cpu_millis(),
        memory_bytes: memory_bytes(),
        isolation: means.as_str().to_owned(),
        // A process without walls is no tier that an agent could demand.
        isolation_tiers: match (means, sandbox.single_tenant()) {
            (IsolationMeans::None, false) => Vec::new(),
            _ => vec!["process".to_owned()],
        },
        limits: limiter.word(),
        builders: toolchain
            .languages()
            .into_iter()
            .map(str::to_owned)
            .collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        labels: labels(&config.labels),
        unsafe_no_isolation: sandbox.single_tenant(),
        boot_id: boot_id(),
        max_replicas: config.max_replicas,
        tools: toolchain.tools.iter().map(tool).collect(),
    }
}

fn tool(tool: &Tool) -> HostTool {
    HostTool {
        kind: tool.kind.program().to_owned(),
        version: tool.version.clone(),
        path: tool.path.display().to_string(),
        ensurepip: tool.ensurepip,
    }
}

/// The architecture, as container images name it.
pub(crate) fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Thousandths of a processor; 0 when the system does not say.
pub(crate) fn cpu_millis() -> u64 {
    std::thread::available_parallelism().map_or(0, |count| count.get() as u64 * 1000)
}

/// Bytes of memory; 0 when the system does not say.
pub(crate) fn memory_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    parse_memory(&text).unwrap_or(0)
}

/// The id of the current boot; empty when the system does not say.
pub(crate) fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

fn parse_memory(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn labels(labels: &BTreeMap<String, String>) -> std::collections::HashMap<String, String> {
    labels.clone().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(
            parse_memory("MemTotal:  2048 kB\nMemFree: 1 kB\n"),
            Some(2 << 20)
        );
        assert_eq!(parse_memory("nothing"), None);
    }
}
