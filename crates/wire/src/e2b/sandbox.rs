//! Sandboxes: §6.1–§6.3 and the requests of §7.5–§7.19.

use std::collections::BTreeMap;

use atoll_types::Secret;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{NetworkConfig, present};

/// Filler for a field that old clients require.
pub const CLIENT_ID: &str = "6532622b";

/// A sandbox that was created or reached again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sandbox {
    /// The template it was made from: its id, never the name that was given.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Its id.
    #[serde(rename = "sandboxID")]
    pub sandbox_id: String,
    /// [`CLIENT_ID`].
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// Clients gate features on it.
    pub envd_version: String,
    /// The template's first name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Only of a secure sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envd_access_token: Option<Secret>,
    /// Only when its ports are not public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_access_token: Option<Secret>,
    /// Where its ports are, when that is not where the client thinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

/// What lists show, and generated clients accept. Closed: an unknown value breaks them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SandboxState {
    /// It serves.
    Running,
    /// It waits to be resumed.
    Paused,
}

/// A sandbox in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedSandbox {
    /// The template it was made from.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// The template's first name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Its id.
    #[serde(rename = "sandboxID")]
    pub sandbox_id: String,
    /// [`CLIENT_ID`].
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// When it came up.
    pub started_at: DateTime<Utc>,
    /// When it is to end.
    pub end_at: DateTime<Utc>,
    /// Processors.
    pub cpu_count: u32,
    /// Memory in MiB.
    #[serde(rename = "memoryMB")]
    pub memory_mb: u32,
    /// Disk in MiB.
    #[serde(rename = "diskSizeMB")]
    pub disk_size_mb: u32,
    /// Whether it serves.
    pub state: SandboxState,
    /// Clients gate features on it.
    pub envd_version: String,
    /// What its creator attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
    /// What is mounted in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_mounts: Option<Vec<VolumeMount>>,
}

/// One sandbox in full.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxDetail {
    /// What lists show of it.
    #[serde(flatten)]
    pub listed: ListedSandbox,
    /// Only of a secure sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envd_access_token: Option<Secret>,
    /// What its creator said about the internet, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_internet_access: Option<bool>,
    /// Where its ports are, when that is not where the client thinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// What its creator said about the network, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkConfig>,
    /// What becomes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
}

/// What becomes of a sandbox when its time comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    /// Whether traffic wakes it.
    pub auto_resume: bool,
    /// Whether it ends.
    pub on_timeout: OnTimeout,
}

/// What happens when the time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTimeout {
    /// It ends.
    Kill,
    /// It is paused.
    Pause,
}

/// A volume and where it appears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// The volume's name.
    pub name: String,
    /// Where in the sandbox.
    pub path: String,
}

/// The request to create a sandbox; the second version of the operation has no `secure` and a longer default for `timeout`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewSandbox {
    /// `[namespace/]name[:tag]`, or an id.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Seconds.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i32>,
    /// Pause instead of ending.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub auto_pause: Option<bool>,
    /// Keep the memory when pausing so.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub auto_pause_memory: Option<bool>,
    /// Wake on traffic.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub auto_resume: Option<AutoResume>,
    /// Protect its `envd` with a token.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,
    /// The one field in another case than the rest.
    #[serde(rename = "allow_internet_access", default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub allow_internet_access: Option<bool>,
    /// The network in detail.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkConfig>,
    /// To be found by.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
    /// Environment of its processes.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<BTreeMap<String, Secret>>,
    /// Servers that the client itself will start in it, by name. What they are told is not read here: it holds secrets. Null is fine.
    #[serde(default, skip_serializing)]
    pub mcp: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    /// Identities it gets.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub iam: Option<IamConfig>,
    /// Volumes to mount.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub volume_mounts: Option<Vec<VolumeMount>>,
}

/// Whether traffic wakes a sandbox.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct AutoResume {
    /// It does.
    pub enabled: bool,
}

/// Identities of a sandbox.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct IamConfig {
    /// By name.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub tokens: Option<BTreeMap<String, IamToken>>,
}

/// One identity.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IamToken {
    /// For whom.
    pub audience: String,
    /// Of which kind.
    pub token_type: String,
}

/// The request to set a deadline.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Timeout {
    /// Seconds from now.
    pub timeout: i32,
}

/// The request to prolong a run.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Refresh {
    /// Seconds from now.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub duration: Option<i32>,
}

/// The request to reach a sandbox again, second version; it may be absent as a whole.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct ConnectV2 {
    /// Seconds from now.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i32>,
    /// Keep the memory of a paused one.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub memory: Option<bool>,
}

/// The request to reach a sandbox again.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Connect {
    /// Seconds from now.
    pub timeout: i32,
    /// Keep the memory of a paused one.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub memory: Option<bool>,
}
