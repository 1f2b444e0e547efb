//! Why sandboxes end.

use std::{fmt, str::FromStr};

use crate::Timestamp;

/// Why a sandbox ended. The names are stored and travel between programs: never rename one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Somebody asked for it.
    Killed,
    /// Its deadline passed.
    Timeout,
    /// Its first process ended by itself.
    Exited,
    /// The kernel ended it for want of memory.
    Oom,
    /// It never became ready.
    StartFailed,
    /// Its node forgot it or went away.
    NodeLost,
    /// Its node was told to shut down and take its sandboxes with it.
    Shutdown,
}

impl EndReason {
    const ALL: [(EndReason, &'static str); 7] = [
        (EndReason::Killed, "killed"),
        (EndReason::Timeout, "timeout"),
        (EndReason::Exited, "exited"),
        (EndReason::Oom, "oom"),
        (EndReason::StartFailed, "start_failed"),
        (EndReason::NodeLost, "node_lost"),
        (EndReason::Shutdown, "shutdown"),
    ];

    /// The stored name.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(reason, _)| *reason == self).map(|(_, name)| *name).expect("ALL lists every variant")
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is none of [`EndReason`]'s.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a reason for which a sandbox ends")]
pub struct UnknownReason(String);

impl FromStr for EndReason {
    type Err = UnknownReason;
    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(reason, _)| *reason).ok_or_else(|| UnknownReason(text.into()))
    }
}

impl serde::Serialize for EndReason {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for EndReason {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How a sandbox ended.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Ending {
    /// Why.
    pub reason: EndReason,
    /// Exit code of its first process, where it is known.
    pub exit_code: Option<i32>,
    /// When.
    pub at: Timestamp,
    /// One sentence for a person; empty when the reason says it all.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_name() {
        for (reason, name) in EndReason::ALL {
            assert_eq!(reason.as_str(), name);
            assert_eq!(name.parse::<EndReason>().unwrap(), reason);
        }
        assert!("".parse::<EndReason>().is_err());
    }
}
