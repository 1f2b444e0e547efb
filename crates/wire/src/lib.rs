//! The shapes on the wires: E2B's REST bodies, the in-sandbox services, the node service, and the Connect protocol that carries
//! the last two. Two programs share every shape here. Domain types are elsewhere; each room converts at its own edge.

pub mod body;
pub mod connect;
pub mod e2b;
pub mod envd;
#[path = "gen/filesystem.rs"]
pub mod filesystem;
mod json;
#[path = "gen/node.rs"]
pub mod node;
#[path = "gen/process.rs"]
pub mod process;
mod timestamp;
pub mod transport;

pub use timestamp::Timestamp;

/// Method paths, by service: `service::process::START`.
pub mod service {
    pub use crate::{filesystem::rpc as filesystem, node::rpc as node, process::rpc as process};
}
