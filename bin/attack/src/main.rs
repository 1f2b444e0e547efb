//! The escape harness: tries to get out of a sandbox, and sees from outside whether anything did. `atoll doctor --attack` runs it.
//!
//! ```text
//! attack host SPEC        on the host: lays out canaries, says where they are, and tells at the end what reached them
//! attack neighbour SPEC   in another sandbox: the same for a neighbour
//! attack run SPEC         in a sandbox: makes every attempt, one line of JSON for each
//! attack try NAME SPEC    one attempt; a process of its own, since it may end badly
//! attack idle …           does nothing: a process to be found
//! ```
//!
//! Attempts are made so that success does no harm: what would be written is what is there, what would be loaded is not loadable. Where
//! it can, an attempt proves itself by its effect: a canary's secret in hand, or a packet that somebody received.

mod attempts;
mod host;
mod neighbour;
mod outcome;
mod packet;
mod run;
mod spec;

use std::{env, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::spec::Spec;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match perform(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("attack: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(arguments: &[&str]) -> Result<()> {
    match arguments {
        ["host", spec] => host::run(Spec::read(spec)?),
        ["neighbour", spec] => neighbour::run(&Spec::read(spec)?),
        ["run", spec] => run::all(spec),
        ["try", name, spec] => run::one(name, Spec::read(spec)?),
        ["idle", ..] => {
            // Until whoever laid us out closes the other end.
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).context("waiting")?;
            Ok(())
        }
        _ => bail!("this is a part of `atoll doctor --attack`; run that"),
    }
}
