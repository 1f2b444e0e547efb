//! Where sandboxes are: what the proxy asks, and what it is told.

use std::net::SocketAddr;

use atoll_types::{ENVD_PORT, SandboxId};
use tokio_util::sync::CancellationToken;

/// Knows every running sandbox that can be reached from here. Asked on each request: the answer must not block.
pub trait Routes: Send + Sync + 'static {
    /// The run of this sandbox that takes traffic now, if there is one.
    fn route(&self, id: &SandboxId) -> Option<Route>;
}

/// How to reach one run of a sandbox.
#[derive(Debug, Clone)]
pub struct Route {
    /// Where its `envd` listens; its other ports are at the same IP address.
    pub guest: SocketAddr,
    /// Which run this is: connections are never carried over to another.
    pub generation: u64,
    /// Cancelled when the run ends: everything in flight to it is cut.
    pub ended: CancellationToken,
}

impl Route {
    pub(crate) fn address(&self, port: u16) -> SocketAddr {
        if port == ENVD_PORT { self.guest } else { SocketAddr::new(self.guest.ip(), port) }
    }
}
