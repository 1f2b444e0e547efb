//! Generated from `spec/filesystem.proto` by `cargo xtask wire`. Edit that file instead.

/// Paths of the methods of `filesystem.Filesystem`.
pub mod rpc {
    /// `Stat`.
    pub const STAT: &str = "/filesystem.Filesystem/Stat";
    /// `MakeDir`.
    pub const MAKE_DIR: &str = "/filesystem.Filesystem/MakeDir";
    /// `Move`.
    pub const MOVE: &str = "/filesystem.Filesystem/Move";
    /// `ListDir`.
    pub const LIST_DIR: &str = "/filesystem.Filesystem/ListDir";
    /// `Remove`.
    pub const REMOVE: &str = "/filesystem.Filesystem/Remove";
    /// `WatchDir`.
    pub const WATCH_DIR: &str = "/filesystem.Filesystem/WatchDir";
    /// `CreateWatcher`.
    pub const CREATE_WATCHER: &str = "/filesystem.Filesystem/CreateWatcher";
    /// `GetWatcherEvents`.
    pub const GET_WATCHER_EVENTS: &str = "/filesystem.Filesystem/GetWatcherEvents";
    /// `RemoveWatcher`.
    pub const REMOVE_WATCHER: &str = "/filesystem.Filesystem/RemoveWatcher";
}

/// `MoveRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct MoveRequest {
    /// `source`.
    #[prost(string, tag = "1")]
    #[serde(rename = "source", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub source: String,
    /// `destination`.
    #[prost(string, tag = "2")]
    #[serde(rename = "destination", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub destination: String,
}

/// `MoveResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct MoveResponse {
    /// `entry`.
    #[prost(message, optional, tag = "1")]
    #[serde(rename = "entry", skip_serializing_if = "Option::is_none")]
    pub entry: Option<crate::filesystem::EntryInfo>,
}

/// `MakeDirRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct MakeDirRequest {
    /// `path`.
    #[prost(string, tag = "1")]
    #[serde(rename = "path", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub path: String,
}

/// `MakeDirResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct MakeDirResponse {
    /// `entry`.
    #[prost(message, optional, tag = "1")]
    #[serde(rename = "entry", skip_serializing_if = "Option::is_none")]
    pub entry: Option<crate::filesystem::EntryInfo>,
}

/// `RemoveRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct RemoveRequest {
    /// `path`.
    #[prost(string, tag = "1")]
    #[serde(rename = "path", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub path: String,
}

/// `RemoveResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct RemoveResponse {}

/// `StatRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct StatRequest {
    /// `path`.
    #[prost(string, tag = "1")]
    #[serde(rename = "path", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub path: String,
}

/// `StatResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct StatResponse {
    /// `entry`.
    #[prost(message, optional, tag = "1")]
    #[serde(rename = "entry", skip_serializing_if = "Option::is_none")]
    pub entry: Option<crate::filesystem::EntryInfo>,
}

/// `FileType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum FileType {
    /// `FILE_TYPE_UNSPECIFIED`.
    Unspecified = 0,
    /// `FILE_TYPE_FILE`.
    File = 1,
    /// `FILE_TYPE_DIRECTORY`.
    Directory = 2,
    /// `FILE_TYPE_SYMLINK`.
    Symlink = 3,
}

impl crate::json::Enumeration for FileType {
    const NAMES: &'static [(&'static str, i32)] =
        &[("FILE_TYPE_UNSPECIFIED", 0), ("FILE_TYPE_FILE", 1), ("FILE_TYPE_DIRECTORY", 2), ("FILE_TYPE_SYMLINK", 3)];
}

/// `EntryInfo`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct EntryInfo {
    /// `name`.
    #[prost(string, tag = "1")]
    #[serde(rename = "name", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub name: String,
    /// `type`.
    #[prost(enumeration = "crate::filesystem::FileType", tag = "2")]
    #[serde(
        rename = "type",
        serialize_with = "crate::json::enum_out::<crate::filesystem::FileType, _>",
        deserialize_with = "crate::json::enum_in::<crate::filesystem::FileType, _>",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub r#type: i32,
    /// `path`.
    #[prost(string, tag = "3")]
    #[serde(rename = "path", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub path: String,
    /// `size`.
    #[prost(int64, tag = "4")]
    #[serde(
        rename = "size",
        deserialize_with = "crate::json::integer",
        skip_serializing_if = "crate::json::is_default",
        serialize_with = "crate::json::quoted"
    )]
    pub size: i64,
    /// `mode`.
    #[prost(uint32, tag = "5")]
    #[serde(rename = "mode", deserialize_with = "crate::json::integer", skip_serializing_if = "crate::json::is_default")]
    pub mode: u32,
    /// `permissions`.
    #[prost(string, tag = "6")]
    #[serde(rename = "permissions", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub permissions: String,
    /// `owner`.
    #[prost(string, tag = "7")]
    #[serde(rename = "owner", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub owner: String,
    /// `group`.
    #[prost(string, tag = "8")]
    #[serde(rename = "group", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub group: String,
    /// `modified_time`.
    #[prost(message, optional, tag = "9")]
    #[serde(rename = "modifiedTime", alias = "modified_time", skip_serializing_if = "Option::is_none")]
    pub modified_time: Option<crate::Timestamp>,
    /// `symlink_target`.
    #[prost(string, optional, tag = "10")]
    #[serde(rename = "symlinkTarget", alias = "symlink_target", skip_serializing_if = "Option::is_none")]
    pub symlink_target: Option<String>,
    /// `metadata`.
    #[prost(btree_map = "string, string", tag = "11")]
    #[serde(rename = "metadata", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub metadata: std::collections::BTreeMap<String, String>,
}

/// `ListDirRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ListDirRequest {
    /// `path`.
    #[prost(string, tag = "1")]
    #[serde(rename = "path", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub path: String,
    /// `depth`.
    #[prost(uint32, tag = "2")]
    #[serde(rename = "depth", deserialize_with = "crate::json::integer", skip_serializing_if = "crate::json::is_default")]
    pub depth: u32,
}

/// `ListDirResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ListDirResponse {
    /// `entries`.
    #[prost(message, repeated, tag = "1")]
    #[serde(rename = "entries", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub entries: Vec<crate::filesystem::EntryInfo>,
}

/// `WatchDirRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct WatchDirRequest {
    /// `path`.
    #[prost(string, tag = "1")]
    #[serde(rename = "path", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub path: String,
    /// `recursive`.
    #[prost(bool, tag = "2")]
    #[serde(rename = "recursive", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub recursive: bool,
    /// `include_entry`.
    #[prost(bool, tag = "3")]
    #[serde(
        rename = "includeEntry",
        alias = "include_entry",
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub include_entry: bool,
    /// `allow_network_mounts`.
    #[prost(bool, tag = "4")]
    #[serde(
        rename = "allowNetworkMounts",
        alias = "allow_network_mounts",
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub allow_network_mounts: bool,
}

/// `EventType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum EventType {
    /// `EVENT_TYPE_UNSPECIFIED`.
    Unspecified = 0,
    /// `EVENT_TYPE_CREATE`.
    Create = 1,
    /// `EVENT_TYPE_WRITE`.
    Write = 2,
    /// `EVENT_TYPE_REMOVE`.
    Remove = 3,
    /// `EVENT_TYPE_RENAME`.
    Rename = 4,
    /// `EVENT_TYPE_CHMOD`.
    Chmod = 5,
}

impl crate::json::Enumeration for EventType {
    const NAMES: &'static [(&'static str, i32)] = &[
        ("EVENT_TYPE_UNSPECIFIED", 0),
        ("EVENT_TYPE_CREATE", 1),
        ("EVENT_TYPE_WRITE", 2),
        ("EVENT_TYPE_REMOVE", 3),
        ("EVENT_TYPE_RENAME", 4),
        ("EVENT_TYPE_CHMOD", 5),
    ];
}

/// `FilesystemEvent`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct FilesystemEvent {
    /// `name`.
    #[prost(string, tag = "1")]
    #[serde(rename = "name", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub name: String,
    /// `type`.
    #[prost(enumeration = "crate::filesystem::EventType", tag = "2")]
    #[serde(
        rename = "type",
        serialize_with = "crate::json::enum_out::<crate::filesystem::EventType, _>",
        deserialize_with = "crate::json::enum_in::<crate::filesystem::EventType, _>",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub r#type: i32,
    /// `entry`.
    #[prost(message, optional, tag = "3")]
    #[serde(rename = "entry", skip_serializing_if = "Option::is_none")]
    pub entry: Option<crate::filesystem::EntryInfo>,
}

/// `WatchDirResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct WatchDirResponse {
    /// At most one of these.
    #[prost(oneof = "watch_dir_response::Event", tags = "1, 2, 3")]
    #[serde(flatten)]
    pub event: Option<watch_dir_response::Event>,
}

/// What belongs to [`WatchDirResponse`] alone.
pub mod watch_dir_response {
    /// `StartEvent`.
    #[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
    #[serde(default)]
    pub struct StartEvent {}

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
        Start(crate::filesystem::watch_dir_response::StartEvent),
        /// `filesystem`.
        #[prost(message, tag = "2")]
        #[serde(rename = "filesystem")]
        Filesystem(crate::filesystem::FilesystemEvent),
        /// `keepalive`.
        #[prost(message, tag = "3")]
        #[serde(rename = "keepalive")]
        Keepalive(crate::filesystem::watch_dir_response::KeepAlive),
    }
}

/// `CreateWatcherRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct CreateWatcherRequest {
    /// `path`.
    #[prost(string, tag = "1")]
    #[serde(rename = "path", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub path: String,
    /// `recursive`.
    #[prost(bool, tag = "2")]
    #[serde(rename = "recursive", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub recursive: bool,
    /// `include_entry`.
    #[prost(bool, tag = "3")]
    #[serde(
        rename = "includeEntry",
        alias = "include_entry",
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub include_entry: bool,
    /// `allow_network_mounts`.
    #[prost(bool, tag = "4")]
    #[serde(
        rename = "allowNetworkMounts",
        alias = "allow_network_mounts",
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub allow_network_mounts: bool,
}

/// `CreateWatcherResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct CreateWatcherResponse {
    /// `watcher_id`.
    #[prost(string, tag = "1")]
    #[serde(
        rename = "watcherId",
        alias = "watcher_id",
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub watcher_id: String,
}

/// `GetWatcherEventsRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct GetWatcherEventsRequest {
    /// `watcher_id`.
    #[prost(string, tag = "1")]
    #[serde(
        rename = "watcherId",
        alias = "watcher_id",
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub watcher_id: String,
}

/// `GetWatcherEventsResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct GetWatcherEventsResponse {
    /// `events`.
    #[prost(message, repeated, tag = "1")]
    #[serde(rename = "events", deserialize_with = "crate::json::or_default", skip_serializing_if = "crate::json::is_default")]
    pub events: Vec<crate::filesystem::FilesystemEvent>,
}

/// `RemoveWatcherRequest`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct RemoveWatcherRequest {
    /// `watcher_id`.
    #[prost(string, tag = "1")]
    #[serde(
        rename = "watcherId",
        alias = "watcher_id",
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "crate::json::is_default"
    )]
    pub watcher_id: String,
}

/// `RemoveWatcherResponse`.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct RemoveWatcherResponse {}
