//! The daemon: reads its settings, builds the parts and lets them run.

mod all;
mod bootstrap;
mod config;
mod data;
mod dns;
mod doctor;
mod guest;
mod instance;
mod leaks;
mod log;
#[cfg(test)]
mod scratch;
mod serve;
mod team;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{Config, LogFormat};

/// Atoll's daemon: sandboxes for AI agents, behind E2B's API.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// The file with the settings; `atolld config` prints what can be in it [default: /etc/atoll/atoll.toml, if it is there]
    #[arg(long, global = true, env = "ATOLL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to log
    #[arg(long, global = true)]
    log_format: Option<LogFormat>,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Runs the API, the proxy and the sandboxes (the default)
    All,
    /// Prints all settings with their defaults
    Config,
    /// Looks at this host: what Atoll needs, what is missing, and what to do about it
    Doctor {
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
    /// Teams and their keys
    #[command(subcommand)]
    Team(Team),
    /// Lists what this daemon and its sandboxes have on the host; fails if there is anything
    Leaks {
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
enum Team {
    /// Makes a team and prints its API key, once
    Create {
        /// What people call it
        name: String,
    },
}

fn main() -> ExitCode {
    match perform(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("atolld: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well.
fn perform(cli: Cli) -> Result<bool> {
    let role = cli.role.unwrap_or(Role::All);
    if let Role::Config = role {
        print!("{}", config::DEFAULTS);
        return Ok(true);
    }
    let mut config = Config::load(cli.config.as_deref())?;
    config.log.format = cli.log_format.unwrap_or(config.log.format);
    match role {
        Role::All | Role::Config => {
            log::start(&config.log)?;
            raise_open_files();
            let closing = CancellationToken::new();
            in_runtime(async {
                let signals = listen_to_signals(closing.clone())?;
                let result = all::run(config, closing).await;
                signals.abort();
                result
            })?;
            Ok(true)
        }
        Role::Doctor { json } => doctor::report(&doctor::examine(&config), json),
        Role::Team(Team::Create { name }) => in_runtime(team::create(&config.data_dir, &name)).map(|()| true),
        Role::Leaks { json } => leaks::report(&leaks::find(&config.data_dir)?, json),
    }
}

/// A sandbox costs a few descriptors, each of its connections two, and service managers start programs with room for 1024.
fn raise_open_files() {
    const WANTED: u64 = 1 << 18;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(WANTED, |most| most.min(WANTED));
    if current.is_some_and(|now| now < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
    {
        warn!(%error, "could not raise the limit of open files, which is {current:?}");
    }
}

fn in_runtime<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the threads")?;
    let result = runtime.block_on(work);
    // Whatever still blocks a thread shall not keep the process.
    runtime.shutdown_background();
    result
}

/// Cancels `closing` when the process is told to end.
fn listen_to_signals(closing: CancellationToken) -> Result<tokio::task::JoinHandle<()>> {
    let mut terminate = signal(SignalKind::terminate()).context("listening to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening to SIGINT")?;
    Ok(tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        info!("stopping after {name}");
        closing.cancel();
    }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        <super::Cli as clap::CommandFactory>::command().debug_assert();
    }
}
