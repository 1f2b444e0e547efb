//! What keeps a container in, by name, so that the escape harness can be tried against a container that lacks some of it.

/// One protection. What it is for is in `docs/security.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protection {
    /// Few capabilities.
    Capabilities,
    /// Limits of memory, processor time and processes.
    CgroupLimits,
    /// The rules of who may send to whom.
    Firewall,
    /// Message queues and shared memory of its own.
    IpcNamespace,
    /// Hidden and read-only paths in `/proc` and `/sys`.
    MaskedPaths,
    /// Process numbers of its own.
    PidNamespace,
    /// The filter of system calls.
    Seccomp,
    /// Root inside is an unprivileged user of the host.
    UserNamespace,
}

/// The protections that are off. Only the daemon's own settings say so; nothing that a client or a sandbox sends does.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Disabled(Vec<Protection>);

impl Disabled {
    /// Whether all protections are on.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `protection` is on.
    pub fn spares(&self, protection: Protection) -> bool {
        !self.0.contains(&protection)
    }

    /// The names, for people.
    pub fn names(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
