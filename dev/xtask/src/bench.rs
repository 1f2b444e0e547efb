//! `cargo xtask bench`: builds what is measured and what measures it, and becomes the latter.

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result};

use crate::{Workspace, build};

/// Runs the benchmark with these arguments; returns only if that failed.
pub fn run(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    let programs = build::run(workspace, "release")?;
    crate::run(&mut workspace.cargo(&["build", "--release", "--package=atoll-bench"]))?;
    let mut bench = Command::new(programs.join("atoll-bench"));
    Err(bench.args(arguments).current_dir(&workspace.root).exec()).context("starting the benchmark")
}
