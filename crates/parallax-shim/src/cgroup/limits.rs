//! The files of the controllers: what limits are written as, and what usage is read from.

use std::path::{Path, PathBuf};

use super::{CgroupError, CgroupLimits, CgroupUsage, Controller, read, write, write_existing};

/// The period in which a processor share is enforced, microseconds; the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;
/// The smallest quota that the kernel takes, microseconds.
const MIN_CPU_QUOTA_US: u64 = 1_000;

/// Writes the limits that `controllers` of the cgroup `dir` enforce.
pub(super) fn set(
    dir: &Path,
    v2: bool,
    controllers: &[Controller],
    limits: &CgroupLimits,
) -> Result<(), CgroupError> {
    for controller in controllers {
        match controller {
            Controller::Cpu => set_cpu(dir, v2, limits.cpu_millis)?,
            Controller::Memory => set_memory(dir, v2, limits.memory_bytes)?,
            Controller::Pids => {
                if let Some(pids) = limits.pids {
                    write(&dir.join("pids.max"), &pids.to_string())?;
                }
            }
            Controller::Cpuacct => {}
        }
    }
    Ok(())
}

fn set_cpu(dir: &Path, v2: bool, millis: Option<u32>) -> Result<(), CgroupError> {
    let Some(millis) = millis else {
        return Ok(());
    };
    let quota = (u64::from(millis) * CPU_PERIOD_US / 1000).max(MIN_CPU_QUOTA_US);
    if v2 {
        return write(&dir.join("cpu.max"), &format!("{quota} {CPU_PERIOD_US}"));
    }
    write(&dir.join("cpu.cfs_period_us"), &CPU_PERIOD_US.to_string())?;
    write(&dir.join("cpu.cfs_quota_us"), &quota.to_string())
}

fn set_memory(dir: &Path, v2: bool, bytes: Option<u64>) -> Result<(), CgroupError> {
    let Some(bytes) = bytes else {
        return Ok(());
    };
    let bytes = bytes.to_string();
    let (limit, with_swap, swap) = if v2 {
        ("memory.max", "memory.swap.max", "0")
    } else {
        (
            "memory.limit_in_bytes",
            "memory.memsw.limit_in_bytes",
            bytes.as_str(),
        )
    };
    write(&dir.join(limit), &bytes)?;
    // Without swap accounting the file is missing, and then there is nothing to close.
    match write_existing(&dir.join(with_swap), swap) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(CgroupError::io("write", &dir.join(with_swap))(error))
        }
        _ => Ok(()),
    }
}

pub(super) fn usage(dirs: &[PathBuf]) -> Result<CgroupUsage, CgroupError> {
    let mut usage = CgroupUsage {
        oom_kills: oom_kills(dirs)?,
        ..CgroupUsage::default()
    };
    for dir in dirs {
        if let Some(text) = read(&dir.join("cpuacct.usage"))? {
            usage.cpu_ns = text.trim().parse().ok();
        } else if usage.cpu_ns.is_none()
            && let Some(text) = read(&dir.join("cpu.stat"))?
        {
            usage.cpu_ns = field(&text, "usage_usec").map(|micros| micros * 1000);
        }
        for file in ["memory.usage_in_bytes", "memory.current"] {
            if let Some(text) = read(&dir.join(file))? {
                let stat = read(&dir.join("memory.stat"))?.unwrap_or_default();
                let cache = field(&stat, "total_inactive_file")
                    .or_else(|| field(&stat, "inactive_file"))
                    .unwrap_or(0);
                let used: Option<u64> = text.trim().parse().ok();
                usage.memory_bytes = used.map(|used| used.saturating_sub(cache));
            }
        }
    }
    Ok(usage)
}

pub(super) fn oom_kills(dirs: &[PathBuf]) -> Result<Option<u64>, CgroupError> {
    for dir in dirs {
        for file in ["memory.oom_control", "memory.events"] {
            if let Some(text) = read(&dir.join(file))?
                && let Some(kills) = field(&text, "oom_kill")
            {
                return Ok(Some(kills));
            }
        }
    }
    Ok(None)
}

/// The number behind `name` in a file of `name number` lines.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .and_then(|value| value.trim().parse().ok())
}
