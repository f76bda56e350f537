//! What a host says of itself, from the wire.

use parallax_core::error::{Error, Result};
use parallax_core::host::{HostFacts, HostTool};
use parallax_core::quantity::{CpuMillis, MemoryBytes};
use parallax_proto::v1;

pub(super) fn parse(facts: v1::HostFacts) -> Result<HostFacts> {
    let tiers = facts
        .isolation_tiers
        .iter()
        .map(|tier| tier.parse())
        .collect::<std::result::Result<_, _>>();
    Ok(HostFacts {
        kind: facts.kind,
        arch: facts.arch,
        os: facts.os,
        cpu: CpuMillis::new(facts.cpu_millis),
        memory: MemoryBytes::new(facts.memory_bytes),
        isolation: facts
            .isolation
            .parse()
            .map_err(|e| Error::invalid(format!("facts.isolation: {e}")))?,
        tiers: tiers.map_err(|e| Error::invalid(format!("facts.isolation_tiers: {e}")))?,
        limits: facts.limits,
        builders: facts.builders,
        version: facts.version,
        labels: facts.labels.into_iter().collect(),
        unsafe_no_isolation: facts.unsafe_no_isolation,
        boot_id: facts.boot_id,
        max_replicas: facts.max_replicas,
        tools: facts.tools.into_iter().map(tool).collect(),
    })
}

fn tool(tool: v1::HostTool) -> HostTool {
    HostTool {
        kind: tool.kind,
        version: tool.version,
        path: tool.path,
        ensurepip: tool.ensurepip,
    }
}
