//! The daemon inside a sandbox: runs processes, moves files, watches directories and forwards loopback ports for the clients of the
//! sandbox, over Connect and plain HTTP on one port.

mod boot;
mod certificates;
mod cors;
pub mod files;
mod filesystem;
pub mod flags;
mod forwarder;
mod hosts;
pub mod init;
mod keepalive;
pub mod log;
mod metrics;
pub mod paths;
mod process;
mod reply;
mod router;
mod server;
pub mod signature;
pub mod state;
pub mod users;

pub use server::run;
