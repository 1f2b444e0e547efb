//! Where the proxy finds sandboxes: only those that are ready, and only until their stop begins.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{PoisonError, RwLock},
};

use atoll_types::{ENVD_PORT, SandboxId};
use tokio_util::sync::CancellationToken;

/// The way to one run of a sandbox.
#[derive(Debug, Clone)]
pub struct Route {
    /// Which run it leads to.
    pub generation: u64,
    /// Where its `envd` listens.
    pub guest: SocketAddr,
    /// Cancelled when the stop begins: whatever is open to the sandbox shall be cut then.
    pub ended: CancellationToken,
}

impl Route {
    /// The address of a port of the sandbox.
    pub fn address(&self, port: u16) -> SocketAddr {
        match port {
            ENVD_PORT => self.guest,
            port => SocketAddr::new(self.guest.ip(), port),
        }
    }
}

/// All routes of a node.
#[derive(Default)]
pub(crate) struct Routes(RwLock<HashMap<SandboxId, Route>>);

impl Routes {
    pub(crate) fn get(&self, id: &SandboxId) -> Option<Route> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    pub(crate) fn publish(&self, id: &SandboxId, route: Route) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), route);
    }

    /// Takes the route away and cuts what uses it.
    pub(crate) fn withdraw(&self, id: &SandboxId) {
        let route = self.0.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        if let Some(route) = route {
            route.ended.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_withdrawn_route_is_cut() {
        let (routes, id) = (Routes::default(), "i1".parse().unwrap());
        let guest = "10.11.0.7:50000".parse().unwrap();
        routes.publish(&id, Route { generation: 1, guest, ended: CancellationToken::new() });
        let route = routes.get(&id).unwrap();
        assert_eq!(route.address(ENVD_PORT), guest);
        assert_eq!(route.address(8080), "10.11.0.7:8080".parse().unwrap());
        routes.withdraw(&id);
        assert!(route.ended.is_cancelled() && routes.get(&id).is_none());
    }
}
