//! Generated from `spec/node.proto` by `cargo xtask wire`. Edit that file instead.

/// Paths of the methods of `atoll.node.v1.Node`.
pub mod rpc {
    /// What this node is and can do.
    pub const DESCRIBE: &str = "/atoll.node.v1.Node/Describe";
    /// Starts the sandbox, or returns it if this generation already runs here.
    pub const ENSURE_SANDBOX: &str = "/atoll.node.v1.Node/EnsureSandbox";
    /// Stops the sandbox. Succeeds when it is already gone; `found` says which.
    pub const REMOVE_SANDBOX: &str = "/atoll.node.v1.Node/RemoveSandbox";
    /// Replaces the deadline. not_found when the sandbox does not run here in this generation.
    pub const SET_DEADLINE: &str = "/atoll.node.v1.Node/SetDeadline";
    /// Everything that runs here now.
    pub const LIST_SANDBOXES: &str = "/atoll.node.v1.Node/ListSandboxes";
    /// First one `snapshot`, then every change after it, in order.
    pub const WATCH: &str = "/atoll.node.v1.Node/Watch";
}

/// `DescribeRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct DescribeRequest {}

/// `DescribeResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct DescribeResponse {
    /// `node_id`.
    #[prost(string, tag = "1")]
    #[serde(
        rename = "nodeId",
        alias = "node_id",
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub node_id: String,
    /// `version`.
    #[prost(string, tag = "2")]
    #[serde(rename = "version", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub version: String,
    /// `runtime`.
    #[prost(string, tag = "3")]
    #[serde(rename = "runtime", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub runtime: String,
    /// `envd_version`.
    #[prost(string, tag = "4")]
    #[serde(
        rename = "envdVersion",
        alias = "envd_version",
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub envd_version: String,
    /// `sandboxes`.
    #[prost(uint32, tag = "5")]
    #[serde(rename = "sandboxes", deserialize_with = "crate::json::integer", skip_serializing_if = "crate::json::is_default")]
    pub sandboxes: u32,
    /// `max_sandboxes`.
    #[prost(uint32, tag = "6")]
    #[serde(
        rename = "maxSandboxes",
        alias = "max_sandboxes",
        deserialize_with = "crate::json::integer",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub max_sandboxes: u32,
    /// What the runtime can do: "pause", "snapshot", "fork_memory", "disk_limit".
    #[prost(string, repeated, tag = "7")]
    #[serde(rename = "abilities", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub abilities: Vec<String>,
}

/// `SandboxSpec`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct SandboxSpec {
    /// `sandbox_id`.
    #[prost(string, tag = "1")]
    #[serde(
        rename = "sandboxId",
        alias = "sandbox_id",
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub sandbox_id: String,
    /// Each run of a sandbox has one; a message about an older generation changes nothing.
    #[prost(uint64, tag = "2")]
    #[serde(
        rename = "generation",
        deserialize_with = "crate::json::integer",
        skip_serializing_if = "crate::json::is_default",
        serialize_with = "crate::json::quoted"
    )]
    pub generation: u64,
    /// `template_id`.
    #[prost(string, tag = "3")]
    #[serde(
        rename = "templateId",
        alias = "template_id",
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub template_id: String,
    /// Names of unpacked layers in the node's layer store, lowest first.
    #[prost(string, repeated, tag = "4")]
    #[serde(rename = "layers", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub layers: Vec<String>,
    /// `resources`.
    #[prost(message, optional, tag = "5")]
    #[serde(rename = "resources", skip_serializing_if = "Option::is_none")]
    pub resources: Option<crate::node::Resources>,
    /// When its start has failed at the latest.
    #[prost(message, optional, tag = "6")]
    #[serde(rename = "deadline", skip_serializing_if = "Option::is_none")]
    pub deadline: Option<crate::Timestamp>,
    /// `envs`.
    #[prost(btree_map = "string, string", tag = "7")]
    #[serde(rename = "envs", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub envs: std::collections::BTreeMap<String, String>,
    /// Absent for a sandbox that was created without `secure`.
    #[prost(string, optional, tag = "8")]
    #[serde(rename = "accessToken", alias = "access_token", skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// `default_user`.
    #[prost(string, tag = "9")]
    #[serde(
        rename = "defaultUser",
        alias = "default_user",
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub default_user: String,
    /// `default_workdir`.
    #[prost(string, optional, tag = "10")]
    #[serde(rename = "defaultWorkdir", alias = "default_workdir", skip_serializing_if = "Option::is_none")]
    pub default_workdir: Option<String>,
    /// `egress`.
    #[prost(message, optional, tag = "11")]
    #[serde(rename = "egress", skip_serializing_if = "Option::is_none")]
    pub egress: Option<crate::node::Egress>,
    /// How long it runs from when it is up; this makes the deadline then. In milliseconds.
    #[prost(uint64, tag = "12")]
    #[serde(
        rename = "lengthMs",
        alias = "length_ms",
        deserialize_with = "crate::json::integer",
        skip_serializing_if = "crate::json::is_default",
        serialize_with = "crate::json::quoted"
    )]
    pub length_ms: u64,
}

/// `Resources`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Resources {
    /// `cpu_count`.
    #[prost(uint32, tag = "1")]
    #[serde(
        rename = "cpuCount",
        alias = "cpu_count",
        deserialize_with = "crate::json::integer",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub cpu_count: u32,
    /// `memory_mib`.
    #[prost(uint32, tag = "2")]
    #[serde(
        rename = "memoryMib",
        alias = "memory_mib",
        deserialize_with = "crate::json::integer",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub memory_mib: u32,
    /// `disk_mib`.
    #[prost(uint32, tag = "3")]
    #[serde(
        rename = "diskMib",
        alias = "disk_mib",
        deserialize_with = "crate::json::integer",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub disk_mib: u32,
}

/// `Egress`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Egress {
    /// False denies everything outside, also the internet.
    #[prost(bool, tag = "1")]
    #[serde(rename = "internet", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub internet: bool,
}

/// `EnsureSandboxRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct EnsureSandboxRequest {
    /// `spec`.
    #[prost(message, optional, tag = "1")]
    #[serde(rename = "spec", skip_serializing_if = "Option::is_none")]
    pub spec: Option<crate::node::SandboxSpec>,
}

/// `EnsureSandboxResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct EnsureSandboxResponse {
    /// `sandbox`.
    #[prost(message, optional, tag = "1")]
    #[serde(rename = "sandbox", skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<crate::node::Sandbox>,
}

/// `SandboxState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum SandboxState {
    /// `SANDBOX_STATE_UNSPECIFIED`.
    Unspecified = 0,
    /// `SANDBOX_STATE_STARTING`.
    Starting = 1,
    /// `SANDBOX_STATE_RUNNING`.
    Running = 2,
    /// `SANDBOX_STATE_STOPPING`.
    Stopping = 3,
    /// `SANDBOX_STATE_ENDED`.
    Ended = 4,
}

impl crate::json::Enumeration for SandboxState {
    const NAMES: &'static [(&'static str, i32)] = &[
        ("SANDBOX_STATE_UNSPECIFIED", 0),
        ("SANDBOX_STATE_STARTING", 1),
        ("SANDBOX_STATE_RUNNING", 2),
        ("SANDBOX_STATE_STOPPING", 3),
        ("SANDBOX_STATE_ENDED", 4),
    ];
}

/// `Sandbox`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Sandbox {
    /// `sandbox_id`.
    #[prost(string, tag = "1")]
    #[serde(
        rename = "sandboxId",
        alias = "sandbox_id",
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub sandbox_id: String,
    /// `generation`.
    #[prost(uint64, tag = "2")]
    #[serde(
        rename = "generation",
        deserialize_with = "crate::json::integer",
        skip_serializing_if = "crate::json::is_default",
        serialize_with = "crate::json::quoted"
    )]
    pub generation: u64,
    /// `state`.
    #[prost(enumeration = "crate::node::SandboxState", tag = "3")]
    #[serde(
        rename = "state",
        serialize_with = "crate::json::enum_out::<crate::node::SandboxState, _>",
        deserialize_with = "crate::json::enum_in::<crate::node::SandboxState, _>",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub state: i32,
    /// `started_at`.
    #[prost(message, optional, tag = "4")]
    #[serde(rename = "startedAt", alias = "started_at", skip_serializing_if = "Option::is_none")]
    pub started_at: Option<crate::Timestamp>,
    /// `deadline`.
    #[prost(message, optional, tag = "5")]
    #[serde(rename = "deadline", skip_serializing_if = "Option::is_none")]
    pub deadline: Option<crate::Timestamp>,
    /// `envd_version`.
    #[prost(string, tag = "6")]
    #[serde(
        rename = "envdVersion",
        alias = "envd_version",
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub envd_version: String,
    /// Set when state is ENDED.
    #[prost(message, optional, tag = "7")]
    #[serde(rename = "ending", skip_serializing_if = "Option::is_none")]
    pub ending: Option<crate::node::Ending>,
}

/// Why and how a sandbox ended.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Ending {
    /// One of the names of `types::EndReason`.
    #[prost(string, tag = "1")]
    #[serde(rename = "reason", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub reason: String,
    /// `exit_code`.
    #[prost(int32, optional, tag = "2")]
    #[serde(rename = "exitCode", alias = "exit_code", skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// `at`.
    #[prost(message, optional, tag = "3")]
    #[serde(rename = "at", skip_serializing_if = "Option::is_none")]
    pub at: Option<crate::Timestamp>,
    /// One sentence for a person; empty when the reason says it all.
    #[prost(string, tag = "4")]
    #[serde(rename = "detail", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub detail: String,
}

/// `RemoveSandboxRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct RemoveSandboxRequest {
    /// `sandbox_id`.
    #[prost(string, tag = "1")]
    #[serde(
        rename = "sandboxId",
        alias = "sandbox_id",
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub sandbox_id: String,
    /// `generation`.
    #[prost(uint64, tag = "2")]
    #[serde(
        rename = "generation",
        deserialize_with = "crate::json::integer",
        skip_serializing_if = "crate::json::is_default",
        serialize_with = "crate::json::quoted"
    )]
    pub generation: u64,
    /// One of the names of `types::EndReason`.
    #[prost(string, tag = "3")]
    #[serde(rename = "reason", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub reason: String,
}

/// `RemoveSandboxResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct RemoveSandboxResponse {
    /// `found`.
    #[prost(bool, tag = "1")]
    #[serde(rename = "found", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub found: bool,
}

/// `SetDeadlineRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct SetDeadlineRequest {
    /// `sandbox_id`.
    #[prost(string, tag = "1")]
    #[serde(
        rename = "sandboxId",
        alias = "sandbox_id",
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub sandbox_id: String,
    /// `generation`.
    #[prost(uint64, tag = "2")]
    #[serde(
        rename = "generation",
        deserialize_with = "crate::json::integer",
        skip_serializing_if = "crate::json::is_default",
        serialize_with = "crate::json::quoted"
    )]
    pub generation: u64,
    /// `deadline`.
    #[prost(message, optional, tag = "3")]
    #[serde(rename = "deadline", skip_serializing_if = "Option::is_none")]
    pub deadline: Option<crate::Timestamp>,
}

/// `SetDeadlineResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct SetDeadlineResponse {}

/// `ListSandboxesRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ListSandboxesRequest {}

/// `ListSandboxesResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ListSandboxesResponse {
    /// `sandboxes`.
    #[prost(message, repeated, tag = "1")]
    #[serde(rename = "sandboxes", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub sandboxes: Vec<crate::node::Sandbox>,
}

/// `WatchRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct WatchRequest {}

/// `WatchResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct WatchResponse {
    /// At most one of these.
    #[prost(oneof = "watch_response::Event", tags = "1, 2, 3, 4, 5")]
    #[serde(flatten)]
    pub event: Option<watch_response::Event>,
}

/// What belongs to [`WatchResponse`] alone.
pub mod watch_response {
    /// `Snapshot`.
    #[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
    #[serde(default)]
    pub struct Snapshot {
        /// `sandboxes`.
        #[prost(message, repeated, tag = "1")]
        #[serde(rename = "sandboxes", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
        pub sandboxes: Vec<crate::node::Sandbox>,
    }

    /// `KeepAlive`.
    #[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
    #[serde(default)]
    pub struct KeepAlive {}

    /// The choices of `event`.
    #[derive(Clone, PartialEq, prost::Oneof, serde::Serialize, serde::Deserialize)]
    #[allow(clippy::large_enum_variant)]
    pub enum Event {
        /// `snapshot`.
        #[prost(message, tag = "1")]
        #[serde(rename = "snapshot")]
        Snapshot(crate::node::watch_response::Snapshot),
        /// `changed`.
        #[prost(message, tag = "2")]
        #[serde(rename = "changed")]
        Changed(crate::node::Sandbox),
        /// `sample`.
        #[prost(message, tag = "3")]
        #[serde(rename = "sample")]
        Sample(crate::node::Sample),
        /// `log`.
        #[prost(message, tag = "4")]
        #[serde(rename = "log")]
        Log(crate::node::LogLine),
        /// `keepalive`.
        #[prost(message, tag = "5")]
        #[serde(rename = "keepalive")]
        Keepalive(crate::node::watch_response::KeepAlive),
    }
}

/// One measurement of one sandbox.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Sample {
    /// `sandbox_id`.
    #[prost(string, tag = "1")]
    #[serde(
        rename = "sandboxId",
        alias = "sandbox_id",
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub sandbox_id: String,
    /// `at`.
    #[prost(message, optional, tag = "2")]
    #[serde(rename = "at", skip_serializing_if = "Option::is_none")]
    pub at: Option<crate::Timestamp>,
    /// `cpu_count`.
    #[prost(uint32, tag = "3")]
    #[serde(
        rename = "cpuCount",
        alias = "cpu_count",
        deserialize_with = "crate::json::integer",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub cpu_count: u32,
    /// `cpu_used_pct`.
    #[prost(double, tag = "4")]
    #[serde(
        rename = "cpuUsedPct",
        alias = "cpu_used_pct",
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub cpu_used_pct: f64,
    /// `mem_used`.
    #[prost(uint64, tag = "5")]
    #[serde(
        rename = "memUsed",
        alias = "mem_used",
        deserialize_with = "crate::json::integer",
        skip_serializing_if = "crate::json::is_default",
        serialize_with = "crate::json::quoted"
    )]
    pub mem_used: u64,
    /// `mem_total`.
    #[prost(uint64, tag = "6")]
    #[serde(
        rename = "memTotal",
        alias = "mem_total",
        deserialize_with = "crate::json::integer",
        skip_serializing_if = "crate::json::is_default",
        serialize_with = "crate::json::quoted"
    )]
    pub mem_total: u64,
    /// `mem_cache`.
    #[prost(uint64, tag = "7")]
    #[serde(
        rename = "memCache",
        alias = "mem_cache",
        deserialize_with = "crate::json::integer",
        skip_serializing_if = "crate::json::is_default",
        serialize_with = "crate::json::quoted"
    )]
    pub mem_cache: u64,
    /// `disk_used`.
    #[prost(uint64, tag = "8")]
    #[serde(
        rename = "diskUsed",
        alias = "disk_used",
        deserialize_with = "crate::json::integer",
        skip_serializing_if = "crate::json::is_default",
        serialize_with = "crate::json::quoted"
    )]
    pub disk_used: u64,
    /// `disk_total`.
    #[prost(uint64, tag = "9")]
    #[serde(
        rename = "diskTotal",
        alias = "disk_total",
        deserialize_with = "crate::json::integer",
        skip_serializing_if = "crate::json::is_default",
        serialize_with = "crate::json::quoted"
    )]
    pub disk_total: u64,
}

/// One line of a sandbox's log: the node's lifecycle lines and envd's own.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct LogLine {
    /// `sandbox_id`.
    #[prost(string, tag = "1")]
    #[serde(
        rename = "sandboxId",
        alias = "sandbox_id",
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub sandbox_id: String,
    /// `at`.
    #[prost(message, optional, tag = "2")]
    #[serde(rename = "at", skip_serializing_if = "Option::is_none")]
    pub at: Option<crate::Timestamp>,
    /// debug, info, warn or error.
    #[prost(string, tag = "3")]
    #[serde(rename = "level", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub level: String,
    /// `message`.
    #[prost(string, tag = "4")]
    #[serde(rename = "message", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub message: String,
    /// `fields`.
    #[prost(btree_map = "string, string", tag = "5")]
    #[serde(rename = "fields", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub fields: std::collections::BTreeMap<String, String>,
}
