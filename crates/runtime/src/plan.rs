//! Everything an engine is told about the machine it shall start.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
};

use atoll_types::{Resources, SandboxId};

/// What to start.
#[derive(Debug)]
pub struct BootPlan {
    /// Whose machine it is; also its hostname.
    pub id: SandboxId,
    /// An existing, empty directory that is this machine's own: the writable layer and the log live here.
    pub dir: PathBuf,
    /// Its files.
    pub root: RootFs,
    /// Its limits.
    pub resources: Resources,
    /// Its network.
    pub network: Network,
    /// Name servers for its `/etc/resolv.conf`.
    pub dns: Vec<IpAddr>,
}

/// A root file system: read-only layers and, over them, the machine's own writable one.
#[derive(Debug, Clone)]
pub struct RootFs {
    /// Directories, lowest first, owned as inside the machine (uid 0 is root's).
    pub layers: Vec<PathBuf>,
}

/// Where a machine's packets go.
#[derive(Debug, Clone)]
pub enum Network {
    /// Namespaces made ahead of time, with an address that the host reaches.
    Slot {
        /// The user namespace that owns the network namespace; the machine lives in it.
        user_ns: Arc<OwnedFd>,
        /// The network namespace.
        net_ns: Arc<OwnedFd>,
        /// The machine's address.
        address: Ipv4Addr,
    },
    /// None of its own: `envd` answers here. For engines that isolate nothing.
    Host(SocketAddr),
}
