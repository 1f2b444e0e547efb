//! What a node is told at its start.

use std::{net::IpAddr, path::PathBuf, time::Duration};

/// Settings of a node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Its name in the API.
    pub id: String,
    /// Where it keeps the state directories of its sandboxes.
    pub data_dir: PathBuf,
    /// Where the unpacked layers of templates are.
    pub layers_dir: PathBuf,
    /// How many sandboxes it holds at most.
    pub max_sandboxes: usize,
    /// Name servers for the sandboxes.
    pub dns: Vec<IpAddr>,
    /// How long the first process of a sandbox may take to end politely.
    pub stop_grace: Duration,
    /// End all sandboxes with reason `shutdown` when the daemon stops, instead of leaving them to the next one.
    pub end_with_daemon: bool,
}

impl NodeConfig {
    /// A node `id` with its files below `data_dir`, everything else at its default.
    pub fn new(id: impl Into<String>, data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        Self {
            id: id.into(),
            layers_dir: data_dir.join("layers"),
            data_dir,
            max_sandboxes: 1000,
            dns: Vec::new(),
            stop_grace: Duration::from_millis(50),
            end_with_daemon: false,
        }
    }

    /// Where the state directories are.
    pub(crate) fn sandboxes(&self) -> PathBuf {
        self.data_dir.join("sandboxes")
    }
}
