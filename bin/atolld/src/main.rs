//! The daemon: reads its settings, builds the parts and lets them run.

mod all;
mod bootstrap;
mod config;
mod data;
mod dns;
mod doctor;
mod faults;
mod guest;
mod instance;
mod leaks;
mod log;
#[cfg(test)]
mod scratch;
mod serve;
mod team;
mod tls;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{Config, LogFormat};

/// Sandboxes for AI agents, behind E2B's API
///
/// Without a command the daemon runs in the foreground, with root's rights, until SIGTERM or Ctrl-C. Sandboxes outlive it: the next start
/// takes them back. Nothing must be configured; `atolld config` prints what can be, and every setting is also a variable.
#[derive(Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  sudo atolld                        start, and make the base template once
  sudo ATOLL_LOG=debug atolld        with a setting from the environment
  atolld config > atoll.toml         all settings, to change some
  sudo atolld --config atoll.toml

When it is up, it prints the variables that clients need; `atoll env` prints them again."
)]
struct Cli {
    /// The file with the settings; `atolld config` prints what can be in it [default: /etc/atoll/atoll.toml, if it is there]
    #[arg(long, global = true, env = "ATOLL_CONFIG", value_name = "FILE", hide_env_values = true)]
    config: Option<PathBuf>,
    /// How to log
    #[arg(long, global = true)]
    log_format: Option<LogFormat>,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Run the API, the proxy and the sandboxes (the default)
    #[command(after_help = "Examples:\n  sudo atolld all\n  sudo atolld all --log-format json 2>> atolld.log")]
    All,
    /// Print all settings with their defaults
    ///
    /// What a file sets wins over these defaults, and the environment wins over the file.
    #[command(after_help = "Examples:\n  atolld config\n  atolld config > /etc/atoll/atoll.toml")]
    Config,
    /// Look at this host: what Atoll needs, what is missing, and what to do about it
    ///
    /// Exits with 1 if something is missing without which the daemon does not start.
    #[command(after_help = "Examples:\n  sudo atolld doctor\n  sudo atolld doctor --json | jq '.[] | select(.ok | not)'")]
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Teams and their keys
    #[command(subcommand)]
    Team(Team),
    /// List what this daemon and its sandboxes have on the host
    ///
    /// Exits with 1 if there is anything: after the daemon and every sandbox have ended, there must not be.
    #[command(after_help = "Examples:\n  sudo atolld leaks\n  sudo ATOLL_DATA_DIR=/srv/atoll atolld leaks --json")]
    Leaks {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the completions for a shell
    #[command(after_help = "Examples:\n  source <(atolld completion bash)")]
    Completion {
        /// The shell
        shell: atoll_manual::Shell,
    },
    /// Print the manual page, or write all of them into a directory
    #[command(hide = true, after_help = "Examples:\n  atolld man | man -l -")]
    Man {
        /// The directory
        dir: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum Team {
    /// Make a team and print its API key, once
    ///
    /// Works while the daemon runs. Only a hash of the key is kept: who loses it needs another.
    #[command(after_help = "Examples:\n  sudo atolld team create research")]
    Create {
        /// What people call it
        name: String,
    },
}

/// What every manual page ends with.
const CLOSING: [(&str, &str); 2] = [
    (
        "EXIT STATUS",
        "0  The daemon was told to end and did; the command succeeded.\n\
         1  Failure; the last line on standard error says why. doctor: something required is missing. leaks: there is something.\n\
         2  The command line makes no sense.",
    ),
    (
        "FILES",
        "/etc/atoll/atoll.toml  Settings, if it is there.\n\
         /var/lib/atoll  The data directory: database, state of the sandboxes, keys. Make copies of it while the daemon is stopped.\n\
         /var/lib/atoll/env  Addresses and key for clients on this machine.\n\
         /var/cache/atoll  Files of templates; can be made again.",
    ),
];

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
    match role {
        Role::Config => print(config::DEFAULTS)?,
        Role::Completion { shell } => print(&atoll_manual::completion(Cli::command(), shell, "", ""))?,
        Role::Man { dir: Some(dir) } => atoll_manual::write_pages(&Cli::command(), &CLOSING, &dir)?,
        Role::Man { dir: None } => print(&String::from_utf8(atoll_manual::page(&Cli::command(), &CLOSING)?)?)?,
        role => return act(role, cli.config, cli.log_format),
    }
    Ok(true)
}

fn act(role: Role, file: Option<PathBuf>, log_format: Option<LogFormat>) -> Result<bool> {
    let mut config = Config::load(file.as_deref())?;
    config.log.format = log_format.unwrap_or(config.log.format);
    match role {
        Role::Doctor { json } => doctor::report(&doctor::examine(&config), json),
        Role::Team(Team::Create { name }) => in_runtime(team::create(&config.data_dir, &name)).map(|()| true),
        Role::Leaks { json } => leaks::report(&leaks::find(&config.data_dir)?, json),
        _ => {
            log::start(&config.log)?;
            faults::arm()?;
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
    }
}

/// Writes to standard output. Whoever reads it may have seen enough.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
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

/// Cancels `closing` when the process is told to end. From now on SIGHUP does not end it: it is for whoever keeps certificates.
fn listen_to_signals(closing: CancellationToken) -> Result<tokio::task::JoinHandle<()>> {
    let mut terminate = signal(SignalKind::terminate()).context("listening to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening to SIGINT")?;
    drop(signal(SignalKind::hangup()).context("listening to SIGHUP")?);
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
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent_and_explains_itself() {
        let cli = super::Cli::command();
        cli.clone().debug_assert();
        for (words, leaf) in atoll_manual::leaves(&cli) {
            assert!(atoll_manual::examples(leaf).iter().any(|line| line.contains(&words)), "{words} has no example of itself");
        }
    }
}
