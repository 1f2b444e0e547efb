//! Settings of the control plane.

use std::time::Duration;

use atoll_store::Retention;

/// Limits and periods. Every field has a default that suits one host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControlConfig {
    /// Live sandboxes that a team may have, unless its own limit says otherwise; more are answered with 429.
    pub sandboxes_per_team: u32,
    /// The longest run of one sandbox, unless the team's own limit says otherwise.
    pub max_length_s: u64,
    /// How long a sandbox may take to come up.
    pub start_timeout_s: u64,
    /// How long the record of a sandbox is kept after its end.
    pub keep_ended_s: u64,
    /// How long samples are kept.
    pub keep_samples_s: u64,
    /// How long log lines are kept.
    pub keep_logs_s: u64,
}

impl Default for ControlConfig {
    fn default() -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self {
            sandboxes_per_team: 1000,
            max_length_s: DAY,
            start_timeout_s: 60,
            keep_ended_s: 30 * DAY,
            keep_samples_s: DAY,
            keep_logs_s: 7 * DAY,
        }
    }
}

impl ControlConfig {
    pub(crate) fn max_length(&self) -> Duration {
        Duration::from_secs(self.max_length_s)
    }

    pub(crate) fn start_timeout(&self) -> Duration {
        Duration::from_secs(self.start_timeout_s)
    }

    pub(crate) fn retention(&self) -> Retention {
        Retention {
            sandboxes: Duration::from_secs(self.keep_ended_s),
            samples: Duration::from_secs(self.keep_samples_s),
            logs: Duration::from_secs(self.keep_logs_s),
        }
    }
}
