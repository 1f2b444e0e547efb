//! What a sandbox logs: §6.6.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// How much a line matters. Closed: an unknown value breaks generated clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For whoever looks for a fault.
    Debug,
    /// What happened.
    Info,
    /// What should not happen often.
    Warn,
    /// What should not happen.
    Error,
}

/// A line as it was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SandboxLog {
    /// When.
    pub timestamp: DateTime<Utc>,
    /// A JSON object with at least a textual `level`: the CLI parses it.
    pub line: String,
}

/// A line taken apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SandboxLogEntry {
    /// When.
    pub timestamp: DateTime<Utc>,
    /// How much it matters.
    pub level: Level,
    /// What it says.
    pub message: String,
    /// What it says, for machines.
    pub fields: BTreeMap<String, String>,
}

/// Lines in both forms, in parallel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxLogs {
    /// As they were written.
    pub logs: Vec<SandboxLog>,
    /// Taken apart.
    pub log_entries: Vec<SandboxLogEntry>,
}

/// Lines taken apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SandboxLogEntries {
    /// The lines.
    pub logs: Vec<SandboxLogEntry>,
}
