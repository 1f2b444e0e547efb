//! The control plane: E2B's REST API over the store and a node.
//!
//! ```text
//! request ──> operations (method, path) ──> auth ──> route ──> store: what is intended
//!                                                        └───> node: make it so
//! node ──watch──> reconcile ──> store: what is; node: whatever differs from what is intended
//! ```
//! Invariants: a route that is not public gets its [`auth::Actor`] from the router and reaches rows through it alone; another team's
//! sandbox is *missing*, never *forbidden*. A reply says what has been made so, or that it has not. Whatever a crash leaves between the
//! store and the node, the reconcilers put right.

mod auth;
mod config;
mod control;
mod cors;
mod create;
pub mod cursor;
mod error;
pub mod network;
mod node;
mod operations;
mod reconcile;
pub mod request;
mod routes;
mod seed;
mod ttl;

pub use config::ControlConfig;
pub use control::Control;
pub use operations::operations;
pub use seed::SeedError;
