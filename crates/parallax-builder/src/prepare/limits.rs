//! What an archive may hold.

/// Bounds on an archive; beyond any of them it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files, folders and links.
    pub entries: u64,
    /// Bytes of all files together, after decompression.
    pub expanded_bytes: u64,
    /// Bytes of one path.
    pub path_bytes: usize,
    /// Bytes of all paths and targets of links together; folders that are only implied by paths
    /// below them count too.
    pub paths_bytes: u64,
    /// Folders within folders.
    pub depth: usize,
}

impl Default for Limits {
    /// Generous for source code with vendored dependencies, and small beside a disk.
    fn default() -> Self {
        Self {
            entries: 100_000,
            expanded_bytes: 1 << 30,
            path_bytes: 1024,
            // 167 bytes for each of as many entries as may be; half of that is long.
            paths_bytes: 16 << 20,
            depth: 40,
        }
    }
}
