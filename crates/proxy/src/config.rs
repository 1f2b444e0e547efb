//! The proxy's settings.

use std::time::Duration;

/// Limits and timeouts. Every field has a default that suits one host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyConfig {
    /// A client connection without requests is closed after this long. Longer than any load balancer in front, shorter than `envd`'s 640 s.
    pub idle_timeout_ms: u64,
    /// A client that has not sent a whole head of a request after this long is cut off.
    pub head_timeout_ms: u64,
    /// How long connecting to a guest may take.
    pub dial_timeout_ms: u64,
    /// Requests in flight and open tunnels that one sandbox may have; more are answered with 429.
    pub connections_per_sandbox: usize,
    /// Unused connections kept open to one sandbox.
    pub idle_upstream_per_sandbox: usize,
    /// How long they are kept. Shorter than common servers keep theirs (5 s), so that we rarely send into a closing connection.
    pub idle_upstream_ms: u64,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            idle_timeout_ms: 620_000,
            head_timeout_ms: 30_000,
            dial_timeout_ms: 30_000,
            connections_per_sandbox: 1024,
            idle_upstream_per_sandbox: 64,
            idle_upstream_ms: 4_000,
        }
    }
}

impl ProxyConfig {
    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    pub(crate) fn head_timeout(&self) -> Duration {
        Duration::from_millis(self.head_timeout_ms)
    }

    pub(crate) fn dial_timeout(&self) -> Duration {
        Duration::from_millis(self.dial_timeout_ms)
    }

    pub(crate) fn idle_upstream(&self) -> Duration {
        Duration::from_millis(self.idle_upstream_ms)
    }
}
