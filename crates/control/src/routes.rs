//! What answers each operation. Only `public` has routes without an actor.

pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod public;
pub(crate) mod sandboxes;
