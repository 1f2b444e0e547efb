//! Generated from `spec/process.proto` by `cargo xtask wire`. Edit that file instead.

/// Paths of the methods of `process.Process`.
pub mod rpc {
    /// `List`.
    pub const LIST: &str = "/process.Process/List";
    /// `Connect`.
    pub const CONNECT: &str = "/process.Process/Connect";
    /// `Start`.
    pub const START: &str = "/process.Process/Start";
    /// `Update`.
    pub const UPDATE: &str = "/process.Process/Update";
    /// `StreamInput`.
    pub const STREAM_INPUT: &str = "/process.Process/StreamInput";
    /// `SendInput`.
    pub const SEND_INPUT: &str = "/process.Process/SendInput";
    /// `SendSignal`.
    pub const SEND_SIGNAL: &str = "/process.Process/SendSignal";
    /// `CloseStdin`.
    pub const CLOSE_STDIN: &str = "/process.Process/CloseStdin";
}

/// A pseudo-terminal.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Pty {
    /// `size`.
    #[prost(message, optional, tag = "1")]
    #[serde(rename = "size", skip_serializing_if = "Option::is_none")]
    pub size: Option<crate::process::pty::Size>,
}

/// What belongs to [`Pty`] alone.
pub mod pty {
    /// Its size in characters.
    #[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
    #[serde(default)]
    pub struct Size {
        /// `cols`.
        #[prost(uint32, tag = "1")]
        #[serde(rename = "cols", deserialize_with = "crate::json::integer", skip_serializing_if = "crate::json::is_default")]
        pub cols: u32,
        /// `rows`.
        #[prost(uint32, tag = "2")]
        #[serde(rename = "rows", deserialize_with = "crate::json::integer", skip_serializing_if = "crate::json::is_default")]
        pub rows: u32,
    }
}

/// What to run.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ProcessConfig {
    /// `cmd`.
    #[prost(string, tag = "1")]
    #[serde(rename = "cmd", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub cmd: String,
    /// `args`.
    #[prost(string, repeated, tag = "2")]
    #[serde(rename = "args", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub args: Vec<String>,
    /// `envs`.
    #[prost(btree_map = "string, string", tag = "3")]
    #[serde(rename = "envs", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub envs: std::collections::BTreeMap<String, String>,
    /// `cwd`.
    #[prost(string, optional, tag = "4")]
    #[serde(rename = "cwd", skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
}

/// `ListRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ListRequest {}

/// `ProcessInfo`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ProcessInfo {
    /// `config`.
    #[prost(message, optional, tag = "1")]
    #[serde(rename = "config", skip_serializing_if = "Option::is_none")]
    pub config: Option<crate::process::ProcessConfig>,
    /// `pid`.
    #[prost(uint32, tag = "2")]
    #[serde(rename = "pid", deserialize_with = "crate::json::integer", skip_serializing_if = "crate::json::is_default")]
    pub pid: u32,
    /// `tag`.
    #[prost(string, optional, tag = "3")]
    #[serde(rename = "tag", skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// `ListResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ListResponse {
    /// `processes`.
    #[prost(message, repeated, tag = "1")]
    #[serde(rename = "processes", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub processes: Vec<crate::process::ProcessInfo>,
}

/// `StartRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct StartRequest {
    /// `process`.
    #[prost(message, optional, tag = "1")]
    #[serde(rename = "process", skip_serializing_if = "Option::is_none")]
    pub process: Option<crate::process::ProcessConfig>,
    /// `pty`.
    #[prost(message, optional, tag = "2")]
    #[serde(rename = "pty", skip_serializing_if = "Option::is_none")]
    pub pty: Option<crate::process::Pty>,
    /// `tag`.
    #[prost(string, optional, tag = "3")]
    #[serde(rename = "tag", skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Absent means true: a pipe that SendInput writes to.
    #[prost(bool, optional, tag = "4")]
    #[serde(rename = "stdin", skip_serializing_if = "Option::is_none")]
    pub stdin: Option<bool>,
}

/// `StartResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct StartResponse {
    /// `event`.
    #[prost(message, optional, tag = "1")]
    #[serde(rename = "event", skip_serializing_if = "Option::is_none")]
    pub event: Option<crate::process::ProcessEvent>,
}

/// `ConnectRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ConnectRequest {
    /// `process`.
    #[prost(message, optional, tag = "1")]
    #[serde(rename = "process", skip_serializing_if = "Option::is_none")]
    pub process: Option<crate::process::ProcessSelector>,
}

/// `ConnectResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ConnectResponse {
    /// `event`.
    #[prost(message, optional, tag = "1")]
    #[serde(rename = "event", skip_serializing_if = "Option::is_none")]
    pub event: Option<crate::process::ProcessEvent>,
}

/// `UpdateRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct UpdateRequest {
    /// `process`.
    #[prost(message, optional, tag = "1")]
    #[serde(rename = "process", skip_serializing_if = "Option::is_none")]
    pub process: Option<crate::process::ProcessSelector>,
    /// `pty`.
    #[prost(message, optional, tag = "2")]
    #[serde(rename = "pty", skip_serializing_if = "Option::is_none")]
    pub pty: Option<crate::process::Pty>,
}

/// `UpdateResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct UpdateResponse {}

/// One event of a process's stream: `start` first, `end` last.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ProcessEvent {
    /// At most one of these.
    #[prost(oneof = "process_event::Event", tags = "1, 2, 3, 4")]
    #[serde(flatten)]
    pub event: Option<process_event::Event>,
}

/// What belongs to [`ProcessEvent`] alone.
pub mod process_event {
    /// `StartEvent`.
    #[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
    #[serde(default)]
    pub struct StartEvent {
        /// `pid`.
        #[prost(uint32, tag = "1")]
        #[serde(rename = "pid", deserialize_with = "crate::json::integer", skip_serializing_if = "crate::json::is_default")]
        pub pid: u32,
    }

    /// `DataEvent`.
    #[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
    #[serde(default)]
    pub struct DataEvent {
        /// At most one of these.
        #[prost(oneof = "data_event::Output", tags = "1, 2, 3")]
        #[serde(flatten)]
        pub output: Option<data_event::Output>,
    }

    /// What belongs to [`DataEvent`] alone.
    pub mod data_event {
        /// The choices of `output`.
        #[derive(Clone, PartialEq, prost::Oneof, serde::Serialize, serde::Deserialize)]
        #[allow(clippy::large_enum_variant)]
        pub enum Output {
            /// `stdout`.
            #[prost(bytes = "bytes", tag = "1")]
            #[serde(rename = "stdout")]
            Stdout(#[serde(with = "crate::json::bytes")] bytes::Bytes),
            /// `stderr`.
            #[prost(bytes = "bytes", tag = "2")]
            #[serde(rename = "stderr")]
            Stderr(#[serde(with = "crate::json::bytes")] bytes::Bytes),
            /// `pty`.
            #[prost(bytes = "bytes", tag = "3")]
            #[serde(rename = "pty")]
            Pty(#[serde(with = "crate::json::bytes")] bytes::Bytes),
        }
    }

    /// `EndEvent`.
    #[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
    #[serde(default)]
    pub struct EndEvent {
        /// -1 when a signal ended the process.
        #[prost(sint32, tag = "1")]
        #[serde(
            rename = "exitCode",
            alias = "exit_code",
            deserialize_with = "crate::json::integer",
            skip_serializing_if = "crate::json::is_default"
        )]
        pub exit_code: i32,
        /// `exited`.
        #[prost(bool, tag = "2")]
        #[serde(rename = "exited", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
        pub exited: bool,
        /// `status`.
        #[prost(string, tag = "3")]
        #[serde(rename = "status", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
        pub status: String,
        /// Absent on success; both SDKs surface its presence.
        #[prost(string, optional, tag = "4")]
        #[serde(rename = "error", skip_serializing_if = "Option::is_none")]
        pub error: Option<String>,
    }

    /// `KeepAlive`.
    #[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
    #[serde(default)]
    pub struct KeepAlive {}

    /// The choices of `event`.
    #[derive(Clone, PartialEq, prost::Oneof, serde::Serialize, serde::Deserialize)]
    #[allow(clippy::large_enum_variant)]
    pub enum Event {
        /// `start`.
        #[prost(message, tag = "1")]
        #[serde(rename = "start")]
        Start(crate::process::process_event::StartEvent),
        /// `data`.
        #[prost(message, tag = "2")]
        #[serde(rename = "data")]
        Data(crate::process::process_event::DataEvent),
        /// `end`.
        #[prost(message, tag = "3")]
        #[serde(rename = "end")]
        End(crate::process::process_event::EndEvent),
        /// `keepalive`.
        #[prost(message, tag = "4")]
        #[serde(rename = "keepalive")]
        Keepalive(crate::process::process_event::KeepAlive),
    }
}

/// `SendInputRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct SendInputRequest {
    /// `process`.
    #[prost(message, optional, tag = "1")]
    #[serde(rename = "process", skip_serializing_if = "Option::is_none")]
    pub process: Option<crate::process::ProcessSelector>,
    /// `input`.
    #[prost(message, optional, tag = "2")]
    #[serde(rename = "input", skip_serializing_if = "Option::is_none")]
    pub input: Option<crate::process::ProcessInput>,
}

/// `SendInputResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct SendInputResponse {}

/// `ProcessInput`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ProcessInput {
    /// At most one of these.
    #[prost(oneof = "process_input::Input", tags = "1, 2")]
    #[serde(flatten)]
    pub input: Option<process_input::Input>,
}

/// What belongs to [`ProcessInput`] alone.
pub mod process_input {
    /// The choices of `input`.
    #[derive(Clone, PartialEq, prost::Oneof, serde::Serialize, serde::Deserialize)]
    #[allow(clippy::large_enum_variant)]
    pub enum Input {
        /// `stdin`.
        #[prost(bytes = "bytes", tag = "1")]
        #[serde(rename = "stdin")]
        Stdin(#[serde(with = "crate::json::bytes")] bytes::Bytes),
        /// `pty`.
        #[prost(bytes = "bytes", tag = "2")]
        #[serde(rename = "pty")]
        Pty(#[serde(with = "crate::json::bytes")] bytes::Bytes),
    }
}

/// `StreamInputRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct StreamInputRequest {
    /// At most one of these.
    #[prost(oneof = "stream_input_request::Event", tags = "1, 2, 3")]
    #[serde(flatten)]
    pub event: Option<stream_input_request::Event>,
}

/// What belongs to [`StreamInputRequest`] alone.
pub mod stream_input_request {
    /// `StartEvent`.
    #[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
    #[serde(default)]
    pub struct StartEvent {
        /// `process`.
        #[prost(message, optional, tag = "1")]
        #[serde(rename = "process", skip_serializing_if = "Option::is_none")]
        pub process: Option<crate::process::ProcessSelector>,
    }

    /// `DataEvent`.
    #[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
    #[serde(default)]
    pub struct DataEvent {
        /// `input`.
        #[prost(message, optional, tag = "2")]
        #[serde(rename = "input", skip_serializing_if = "Option::is_none")]
        pub input: Option<crate::process::ProcessInput>,
    }

    /// `KeepAlive`.
    #[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
    #[serde(default)]
    pub struct KeepAlive {}

    /// The choices of `event`.
    #[derive(Clone, PartialEq, prost::Oneof, serde::Serialize, serde::Deserialize)]
    #[allow(clippy::large_enum_variant)]
    pub enum Event {
        /// `start`.
        #[prost(message, tag = "1")]
        #[serde(rename = "start")]
        Start(crate::process::stream_input_request::StartEvent),
        /// `data`.
        #[prost(message, tag = "2")]
        #[serde(rename = "data")]
        Data(crate::process::stream_input_request::DataEvent),
        /// `keepalive`.
        #[prost(message, tag = "3")]
        #[serde(rename = "keepalive")]
        Keepalive(crate::process::stream_input_request::KeepAlive),
    }
}

/// `StreamInputResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct StreamInputResponse {}

/// `Signal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Signal {
    /// `SIGNAL_UNSPECIFIED`.
    Unspecified = 0,
    /// `SIGNAL_SIGKILL`.
    Sigkill = 9,
    /// `SIGNAL_SIGTERM`.
    Sigterm = 15,
}

impl crate::json::Enumeration for Signal {
    const NAMES: &'static [(&'static str, i32)] = &[("SIGNAL_UNSPECIFIED", 0), ("SIGNAL_SIGKILL", 9), ("SIGNAL_SIGTERM", 15)];
}

/// `SendSignalRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct SendSignalRequest {
    /// `process`.
    #[prost(message, optional, tag = "1")]
    #[serde(rename = "process", skip_serializing_if = "Option::is_none")]
    pub process: Option<crate::process::ProcessSelector>,
    /// `signal`.
    #[prost(enumeration = "crate::process::Signal", tag = "2")]
    #[serde(
        rename = "signal",
        serialize_with = "crate::json::enum_out::<crate::process::Signal, _>",
        deserialize_with = "crate::json::enum_in::<crate::process::Signal, _>",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub signal: i32,
}

/// `SendSignalResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct SendSignalResponse {}

/// `CloseStdinRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct CloseStdinRequest {
    /// `process`.
    #[prost(message, optional, tag = "1")]
    #[serde(rename = "process", skip_serializing_if = "Option::is_none")]
    pub process: Option<crate::process::ProcessSelector>,
}

/// `CloseStdinResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct CloseStdinResponse {}

/// `ProcessSelector`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ProcessSelector {
    /// At most one of these.
    #[prost(oneof = "process_selector::Selector", tags = "1, 2")]
    #[serde(flatten)]
    pub selector: Option<process_selector::Selector>,
}

/// What belongs to [`ProcessSelector`] alone.
pub mod process_selector {
    /// The choices of `selector`.
    #[derive(Clone, PartialEq, prost::Oneof, serde::Serialize, serde::Deserialize)]
    #[allow(clippy::large_enum_variant)]
    pub enum Selector {
        /// `pid`.
        #[prost(uint32, tag = "1")]
        #[serde(rename = "pid")]
        Pid(u32),
        /// `tag`.
        #[prost(string, tag = "2")]
        #[serde(rename = "tag")]
        Tag(String),
    }
}
