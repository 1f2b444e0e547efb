//! `atoll doctor`: the daemon knows what it needs; this only finds it.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

/// Runs `atolld doctor` in our place.
pub fn run(data_dir: &Path, json: bool) -> Result<u8> {
    let daemon = find().context("no `atolld` beside this program nor in PATH: `doctor` checks the machine on which the daemon is to run, so install it here or run this there")?;
    let status = Command::new(&daemon)
        .arg("doctor")
        .args(json.then_some("--json"))
        .env("ATOLL_DATA_DIR", data_dir)
        .status()
        .with_context(|| format!("running {}", daemon.display()))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

fn find() -> Option<PathBuf> {
    let beside = env::current_exe().ok().and_then(|me| Some(me.parent()?.join("atolld")));
    let in_path = env::var_os("PATH").map(|path| env::split_paths(&path).map(|dir| dir.join("atolld")).collect::<Vec<_>>());
    beside.into_iter().chain(in_path.unwrap_or_default()).find(|path| path.is_file())
}
