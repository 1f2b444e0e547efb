//! What a sandbox uses: §6.5.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// One sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxMetric {
    /// When. Deprecated on paper and read by every client.
    pub timestamp: DateTime<Utc>,
    /// When, in seconds since 1970.
    pub timestamp_unix: i64,
    /// Processors.
    pub cpu_count: u32,
    /// Percent of them.
    pub cpu_used_pct: f32,
    /// Bytes.
    pub mem_used: u64,
    /// Bytes.
    pub mem_total: u64,
    /// Bytes.
    pub mem_cache: u64,
    /// Bytes.
    pub disk_used: u64,
    /// Bytes.
    pub disk_total: u64,
}

/// The last sample of each of several sandboxes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SandboxesMetrics {
    /// By id; those without a sample are absent.
    pub sandboxes: BTreeMap<String, SandboxMetric>,
}
