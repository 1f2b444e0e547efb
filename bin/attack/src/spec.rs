//! What the parts of the harness tell each other, as JSON.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// What everybody is told.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Spec {
    /// In every packet that is sent, so that those who receive one know it.
    pub nonce: String,
    /// What only canaries give away.
    pub secret: String,
    /// Where the daemon listens, as far as that is known.
    #[serde(default)]
    pub daemon: Vec<SocketAddr>,
    /// The canaries of the host; none when the harness does not run there.
    #[serde(default)]
    pub host: Option<Host>,
    /// The address of the neighbour.
    #[serde(default)]
    pub neighbour: Option<Ipv4Addr>,
}

/// What the host has laid out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    /// A process with the secret among its arguments.
    pub pid: i32,
    /// A file that everyone may read.
    pub file: PathBuf,
    /// The same, past its path.
    pub handle: Option<Handle>,
    /// Block devices.
    pub disks: Vec<Disk>,
    /// All addresses, the loopback's included.
    pub addresses: Vec<IpAddr>,
    /// Where the canaries listen at each, TCP and UDP.
    pub port: u16,
    /// Unix sockets: a path, and an abstract name.
    pub socket: PathBuf,
    /// See `socket`.
    pub abstract_socket: String,
    /// A System V shared memory segment.
    pub segment: Option<i32>,
    /// A POSIX message queue.
    pub queue: Option<String>,
    /// A key that everyone may read.
    pub key: Option<i64>,
    /// Network interfaces that no sandbox has.
    pub links: Vec<String>,
}

/// A block device of the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Disk {
    /// As in `/dev`.
    pub name: String,
    /// Its number.
    pub device: u64,
    /// Its node, past its path.
    pub handle: Option<Handle>,
}

/// A file as `open_by_handle_at` takes it: a `struct file_handle`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Handle(pub Vec<u8>);

impl Spec {
    /// Reads it from a file.
    pub fn read(path: &str) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("reading {path}"))?;
        serde_json::from_slice(&text).with_context(|| format!("reading {path}"))
    }
}
