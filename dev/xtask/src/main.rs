//! Checks and chores of the workspace: `cargo xtask <task>`.

mod bench;
mod build;
mod check;
mod config;
mod fuzz;
mod lines;
mod links;
mod walls;
mod wire;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail, ensure};

const USAGE: &str = "\
cargo xtask build [--release | --dist]  the guest programs, then atolld (which embeds them) and atoll
cargo xtask check                       formatting, clippy, walls, generated code, tests
cargo xtask bench [--help]              how fast it is, against its targets and its peers
cargo xtask fuzz [TARGET…] [--seconds N]  looks for inputs that break the targets of tests/fuzz, 60 s each unless said
cargo xtask walls                       the allowed dependencies between crates
cargo xtask wire [--check]              Rust messages from spec/*.proto
cargo xtask config [--check]            the reference in docs/configuration.md
cargo xtask lines                       lines of Rust per crate";

/// The workspace that this program belongs to.
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments).current_dir(&self.root);
        command
    }

    fn metadata(&self) -> Result<serde_json::Value> {
        let output = self.cargo(&["metadata", "--format-version=1", "--no-deps"]).output().context("starting cargo metadata")?;
        ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Where cargo puts what it builds for this machine.
    fn output_dir(&self, profile: &str) -> Result<PathBuf> {
        let metadata = self.metadata()?;
        let target = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let version = Command::new(rustc).arg("-vV").output().context("starting rustc")?;
        let version = String::from_utf8(version.stdout)?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not say its host")?;
        Ok(Path::new(target).join(host).join(profile))
    }
}

/// Runs a command to its end; an error if it fails.
fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

fn main() -> ExitCode {
    match perform(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(arguments: &[String]) -> Result<()> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.ancestors().nth(2).context("xtask lives two folders below the root")?.to_owned();
    let workspace = Workspace { root };
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["build"] => build(&workspace, "dev"),
        ["build", "--release"] => build(&workspace, "release"),
        ["build", "--dist"] => build(&workspace, "dist"),
        ["bench", ref arguments @ ..] => bench::run(&workspace, arguments),
        ["check"] => check::run(&workspace),
        ["fuzz", ref arguments @ ..] => fuzz::run(&workspace, arguments),
        ["walls"] => walls::run(&workspace),
        ["wire"] => wire::run(&workspace.root, false),
        ["wire", "--check"] => wire::run(&workspace.root, true),
        ["config"] => config::run(&workspace.root, false),
        ["config", "--check"] => config::run(&workspace.root, true),
        ["lines"] => lines::run(&workspace),
        _ => bail!("usage:\n{USAGE}"),
    }
}

fn build(workspace: &Workspace, profile: &str) -> Result<()> {
    println!("{}", build::run(workspace, profile)?.display());
    Ok(())
}
