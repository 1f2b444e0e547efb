//! The edge: takes requests from anywhere and relays them to a port of a sandbox.
//!
//! ```text
//! bytes ──> server ──> host ──> control_route ──> Routes ──> pool ──> (dial) ──> guest
//!           h1, h2c    who?     never these       where?     429      retries     HTTP/1.1
//!              <────────────────── body: streamed, cut when the sandbox ends ──────
//! ```
//!
//! Invariants: the path and query reach the guest byte for byte; nothing is buffered; a connection is never reused for another
//! run of a sandbox; a body cut short is never made to look complete; the control routes of `envd` are unreachable from here.

mod body;
mod config;
pub mod control_route;
mod dial;
pub mod head;
pub mod host;
mod page;
mod pool;
mod refusal;
mod relay;
mod routes;
mod server;

pub use body::{BodyError, ResponseBody};
pub use config::ProxyConfig;
pub use head::is_for;
pub use relay::Proxy;
pub use routes::{Route, Routes};
