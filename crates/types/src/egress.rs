//! What a sandbox may reach.

/// Outgoing traffic of one sandbox. Private ranges, metadata addresses, the host and other sandboxes are always denied.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Egress {
    /// Whether it reaches the internet.
    pub internet: bool,
}

impl Default for Egress {
    fn default() -> Self {
        Self { internet: true }
    }
}
