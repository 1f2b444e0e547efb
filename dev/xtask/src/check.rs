//! `cargo xtask check`: everything that must hold before a change goes in, cheapest first. Prints how long each step took.

use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::{Workspace, config, links, run as run_command, walls, wire};

/// Runs all checks; stops at the first that fails.
pub fn run(workspace: &Workspace) -> Result<()> {
    step("formatting", || run_command(&mut workspace.cargo(&["fmt", "--all", "--check"])))?;
    step("walls", || walls::run(workspace))?;
    step("generated code", || wire::run(&workspace.root, true))?;
    step("reference of settings", || config::run(&workspace.root, true))?;
    step("links in the documents", || links::run(workspace))?;
    let clippy = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny=warnings"];
    step("clippy", || run_command(&mut workspace.cargo(&clippy)))?;
    let nextest = workspace.cargo(&["nextest", "--version"]).output().is_ok_and(|output| output.status.success());
    let tests: &[&str] = match nextest {
        true => &["nextest", "run", "--workspace", "--success-output=final"],
        false => &["test", "--quiet", "--workspace", "--", "--nocapture"],
    };
    let mut tests = workspace.cargo(tests);
    let envd = workspace.output_dir("release")?.join("envd");
    if envd.exists() {
        tests.env("ATOLL_TEST_ENVD", envd);
    }
    step("tests", || run_command(&mut tests))
}

fn step(name: &'static str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let started = Instant::now();
    work().context(name)?;
    println!("check: {name}: {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}
