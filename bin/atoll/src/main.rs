//! `atoll`, the user's command: knows only the public API, runs anywhere.

mod api;
mod attack;
mod cli;
mod copy;
mod doctor;
mod exec;
mod failure;
mod forward;
mod link;
mod progress;
mod sandbox;
mod settings;
mod signals;
mod table;
mod terminal;
mod traffic;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Result;
use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command, Place, SandboxCommand};

fn main() -> ExitCode {
    let Cli { place, command } = Cli::parse();
    let Some(command) = command else {
        eprint!("{}", cli::GUIDE);
        return failure::USAGE.into();
    };
    let is_process = matches!(
        command,
        Command::Run(_)
            | Command::Sandbox { command: SandboxCommand::Run(_) | SandboxCommand::Exec { .. } | SandboxCommand::Connect { .. } }
    );
    match run(place, command) {
        Ok(code) => code.into(),
        // Whoever read our output has seen enough.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("atoll: {error:#}");
            let code = if is_process { failure::command_exit_code } else { failure::exit_code };
            code(&error).into()
        }
    }
}

/// Does what was asked; the result is the exit code.
fn run(place: Place, command: Command) -> Result<u8> {
    match command {
        Command::Env { json } => {
            let entries = settings::read_env(&place.data_dir)?;
            print(&if json { to_json(&entries)? } else { settings::exports(&entries) })?;
        }
        Command::Doctor { json, attack: false } => return doctor::run(&place.data_dir, json),
        Command::Doctor { json, attack: true } => {
            let settings = place.resolve()?;
            return tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(attack::run(settings, json));
        }
        Command::Completion { shell } => print(&atoll_manual::completion(Cli::command(), shell, "id", "atoll sandbox ls -q"))?,
        Command::Man { dir: Some(dir) } => atoll_manual::write_pages(&Cli::command(), &cli::CLOSING, &dir)?,
        Command::Man { dir: None } => io::stdout().write_all(&atoll_manual::page(&Cli::command(), &cli::CLOSING)?)?,
        Command::Run(run) => return in_sandbox(place, SandboxCommand::Run(run)),
        Command::Sandbox { command } => return in_sandbox(place, command),
    }
    Ok(0)
}

fn in_sandbox(place: Place, command: SandboxCommand) -> Result<u8> {
    let settings = place.resolve()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(sandbox::run(settings, command));
    // Not waiting for a read of standard input that may never return.
    runtime.shutdown_background();
    result
}

/// Writes to standard output; a reader that left is an error like any other, not a panic.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn to_json(value: &impl serde::Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}
