//! The nouns everything else speaks: ids, secrets, states, sizes, policies.
//!
//! Pure: no I/O, no tasks, no knowledge of any wire or table. A value that exists here is valid; parsing happens once, at the
//! door, through `FromStr`.

mod egress;
pub mod fault;
mod id;
mod reason;
mod resources;
mod secret;
mod template_ref;
mod time;

pub use egress::Egress;
pub use id::{ApiKey, ApiKeyHash, BuildId, IdError, SandboxId, TeamId, TemplateId};
pub use reason::{EndReason, Ending, UnknownReason};
pub use resources::Resources;
pub use secret::Secret;
pub use template_ref::{TemplateRef, TemplateRefError};
pub use time::{Clock, Stopwatch, SystemClock, Timestamp, after};

/// The port on which `envd` listens in every sandbox; both SDKs hard-code it.
pub const ENVD_PORT: u16 = 49983;
