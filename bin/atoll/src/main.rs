//! `atoll`, the user's command: knows only the public API, runs anywhere.

mod api;
mod cli;
mod doctor;
mod exec;
mod sandbox;
mod settings;
mod table;
mod terminal;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Result;
use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code.into(),
        // Whoever read our output has seen enough.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("atoll: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does what was asked; the result is the exit code.
fn run(cli: Cli) -> Result<u8> {
    match cli.command {
        Command::Env { json } => {
            let entries = settings::read_env(&cli.place.data_dir)?;
            print(&if json { to_json(&entries)? } else { settings::exports(&entries) })?;
            Ok(0)
        }
        Command::Doctor { json } => doctor::run(&cli.place.data_dir, json),
        Command::Sandbox { command } => {
            let settings = cli.place.resolve()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let result = runtime.block_on(sandbox::run(settings, command));
            // Not waiting for a read of standard input that may never return.
            runtime.shutdown_background();
            result
        }
    }
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
