//! HTTP bodies of `envd`. Facts: reference/envd.md §8–§10.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version our `envd` reports: the release whose wire it follows. SDKs gate features on it, see reference/envd.md §20.
pub const ENVD_VERSION: &str = "0.6.13";

/// Body of `POST /init`. An absent field leaves what is there alone, except the access token.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InitRequest {
    /// When the caller sent it, RFC 3339: orders calls and sets the guest's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// Replaces the whole set of user-defined variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<BTreeMap<String, String>>,
    /// The token that requests must carry from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// Address of the host's event service.
    #[serde(rename = "hyperloopIP", skip_serializing_if = "Option::is_none")]
    pub hyperloop_ip: Option<String>,
    /// The user of requests that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_user: Option<String>,
    /// What an empty path means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_workdir: Option<String>,
    /// Which run of the sandbox this is.
    #[serde(rename = "lifecycleID", skip_serializing_if = "Option::is_none")]
    pub lifecycle_id: Option<String>,
    /// Volumes to mount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_mounts: Option<Vec<VolumeMount>>,
    /// Certificates, PEM, to trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
}

/// One volume of [`InitRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VolumeMount {
    /// `<server>:/<volume>`.
    pub nfs_target: String,
    /// Where it appears.
    pub path: String,
}

/// Body of `GET /metrics`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Unix seconds.
    pub ts: i64,
    /// Logical processors.
    pub cpu_count: u32,
    /// Percent of all processors that was busy since the previous call.
    pub cpu_used_pct: f64,
    /// Bytes.
    pub mem_total: u64,
    /// Bytes.
    pub mem_used: u64,
    /// Bytes.
    pub mem_cache: u64,
    /// MiB, kept for old readers.
    pub mem_total_mib: u64,
    /// MiB, kept for old readers.
    pub mem_used_mib: u64,
    /// Bytes of the root file system.
    pub disk_total: u64,
    /// Bytes, those reserved for root included.
    pub disk_used: u64,
}

/// Body of an error of a plain HTTP route: the code is the status, an integer, which is how clients tell it from a Connect error.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HttpError {
    /// The HTTP status.
    pub code: u16,
    /// What went wrong.
    pub message: String,
}

/// One uploaded file in the answer to `POST /files`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Absolute path.
    pub path: String,
    /// Last component.
    pub name: String,
    /// Always `file`.
    pub r#type: String,
    /// The `user.e2b.*` attributes; omitted when there are none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}
