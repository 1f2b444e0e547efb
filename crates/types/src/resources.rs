//! What a sandbox may use.

/// Limits of one sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Resources {
    /// Processors' worth of time.
    pub cpu_count: u32,
    /// Memory in MiB, page cache included.
    pub memory_mib: u32,
    /// Writable disk in MiB.
    pub disk_mib: u32,
    /// Processes and threads.
    pub pids: u32,
}

impl Default for Resources {
    /// What E2B gives its `base` template; the process limit is ours.
    fn default() -> Self {
        Self { cpu_count: 2, memory_mib: 1024, disk_mib: 10240, pids: 4096 }
    }
}
