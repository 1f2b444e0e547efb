//! Bodies of E2B's REST API, as its clients send and expect them. Facts: reference/rest-api.md §1.1, §6 and §7.
//!
//! What is optional is left out, never `null`: generated clients accept a missing member and fail on a null one. A request's optional
//! member may be absent; a `null` in its place is refused, except where a field's doc says that null is fine.

mod logs;
mod metrics;
mod network;
mod sandbox;

pub use logs::{Level, SandboxLog, SandboxLogEntries, SandboxLogEntry, SandboxLogs};
pub use metrics::{SandboxMetric, SandboxesMetrics};
pub use network::{EgressProxy, NetworkConfig, NetworkRule, Transform};
pub use sandbox::{
    AutoResume, CLIENT_ID, Connect, ConnectV2, IamConfig, IamToken, Lifecycle, ListedSandbox, NewSandbox, OnTimeout, Refresh, Sandbox,
    SandboxDetail, SandboxState, Timeout, VolumeMount,
};
use serde::{Deserialize, Deserializer, Serialize};

/// The body of every error. JS clients read `code` here rather than the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// The HTTP status.
    pub code: u16,
    /// What went wrong.
    pub message: String,
    /// What went wrong, for machines; some failures only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
}

/// For an optional member that may not be null.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

#[cfg(test)]
mod tests;
