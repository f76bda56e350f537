//! The machine that a figure was measured on.

use std::fs;

use serde::Serialize;

/// What a reader needs to judge a raw number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conditions {
    /// Cores that this process may use.
    pub cpus: usize,
    /// The processor's name as the kernel gives it.
    pub cpu_model: String,
    /// The kernel's release.
    pub kernel: String,
    /// Total memory in bytes; 0 when the kernel does not say.
    pub memory_bytes: u64,
    /// Runnable processes averaged over the last minute when the run began.
    pub load_before: String,
}

impl Conditions {
    /// Reads what `/proc` says; what it does not say is "unknown".
    pub fn of_this_machine() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let meminfo = read("/proc/meminfo");
        let load = read("/proc/loadavg");
        let load = load.split(' ').next().filter(|first| !first.is_empty());
        Self {
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            cpu_model: field(&cpuinfo, "model name")
                .unwrap_or("unknown")
                .to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_bytes: kibibytes(&meminfo, "MemTotal").unwrap_or(0) * 1024,
            load_before: load.unwrap_or("unknown").to_owned(),
        }
    }
}

/// The value of `name: 123 kB` in the style of `/proc`, in KiB.
pub fn kibibytes(text: &str, name: &str) -> Option<u64> {
    field(text, name)?
        .trim_end_matches(" kB")
        .trim()
        .parse()
        .ok()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then_some(value.trim())
    })
}

/// Outside Linux, and in odd containers, there is nothing to read: the field is then "unknown".
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_proc_writes_them() {
        let text = "Rss:              10240 kB\nPss:                 96 kB\nPss_Anon:  12 kB\n";
        assert_eq!(kibibytes(text, "Pss"), Some(96));
        assert_eq!(kibibytes(text, "Swap"), None);
    }
}
