//! The node agent: it holds sandboxes, enforces their deadlines, survives its own restarts and tells a control plane what happens.
//!
//! - [`Node::start`] takes back what the last run left; [`NodeHandle::serve`] answers `spec/node.proto`; [`NodeHandle::route`] is for
//!   the proxy.
//! - Each run of a sandbox has one owner, `sandbox::actor`, whose rules are `sandbox::decide`.
//! - Whatever exists of a sandbox is named by its state file, `home`, which is made first and removed last.

mod adopt;
mod board;
mod config;
mod disk;
pub mod home;
mod networks;
mod node;
mod routes;
pub mod sandbox;
#[cfg(test)]
mod scratch;
mod service;
pub mod slots;
mod spec;
mod view;

pub use config::NodeConfig;
pub use networks::Networks;
pub use node::{Node, NodeHandle, StartError};
pub use routes::Route;

/// An error with all its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        None => error.to_string(),
        Some(cause) => format!("{error}: {}", chain(cause)),
    }
}
