//! A whole platform in one process, for component tests: control and a node with the `sim` engine over the in-memory pipe, a database of
//! its own, and a clock that the test moves.
//!
//! ```text
//! let world = World::start().await?;
//! let made = world.api().post("/sandboxes", json!({"templateID": "base"})).await;
//! assert_eq!(made.status, 201);
//! ```
//! Nothing here waits for a fixed time: [`World::until`] waits for a condition, with a deadline.

mod api;
mod clock;
mod world;

pub use api::{Api, Reply};
pub use clock::HandClock;
pub use world::{Link, World};
