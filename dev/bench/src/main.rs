//! The benchmark of Atoll: what `cargo xtask bench` builds and runs. `docs/benchmarks.md` says what each row is.
//!
//! Everything runs on one thread, and what is started is owned by values that end it when they are dropped: a Ctrl-C drops them all.

mod client;
mod daemon;
mod http;
mod machine;
mod nginx;
mod report;
mod rows;
mod serve;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    daemon::Daemon,
    machine::Machine,
    report::{Report, Row},
};

/// Measures Atoll against its targets and its peers on this machine.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    how: How,
}

/// What copies of this program do on its behalf.
#[derive(Subcommand)]
enum Part {
    /// Answers HTTP requests; runs inside a sandbox
    #[command(hide = true)]
    Serve { port: u16 },
    /// Starts containers; runs in a mount namespace of its own
    #[command(hide = true)]
    Containers { layer: PathBuf },
    /// Ends at once
    #[command(hide = true)]
    Nothing,
}

#[derive(clap::Args)]
struct How {
    /// Where atolld is; `cargo xtask bench` says it
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Where to put the samples
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    into: PathBuf,
    /// Only these rows
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    only: Vec<Group>,
    /// Few samples: whether it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// A thousand sandboxes alive instead of two hundred
    #[arg(long)]
    big: bool,
    /// So many times the usual samples
    #[arg(long, value_name = "N", default_value_t = 1)]
    runs: usize,
    /// Compares with the file of another run
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// A Python that has the SDK
    #[arg(long, value_name = "FILE", env = "ATOLL_BENCH_PYTHON")]
    python: Option<PathBuf>,
    /// Prints the samples instead of the table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    Create,
    Command,
    Files,
    Proxy,
    Crun,
    Sdk,
    Steps,
    Memory,
}

/// One run.
struct Bench {
    how: How,
    /// This program.
    ours: PathBuf,
    programs: PathBuf,
    python: Option<PathBuf>,
    daemon: Option<Daemon>,
    report: Report,
}

impl Bench {
    /// How often to do something.
    fn rounds(&self, usual: usize, quick: usize) -> usize {
        self.how.runs * if self.how.quick { quick } else { usual }
    }

    fn quick(&self) -> bool {
        self.how.quick
    }

    fn big(&self) -> bool {
        self.how.big
    }

    fn add(&mut self, row: Row) {
        let value = row.quantile(0.5).map_or("nothing".into(), |value| format!("{value:.2}"));
        eprintln!("bench: {}: {value}", row.what);
        self.report.rows.push(row);
    }

    fn skip(&mut self, what: &str) {
        eprintln!("SKIPPED {what}");
        self.report.skipped.push(what.to_owned());
    }

    /// Whether a program is there that only some rows need.
    fn tool(&mut self, program: &str, package: &str, rows: &str) -> bool {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(program).is_file());
        if !found {
            self.skip(&format!("{rows}: there is no {program}; apt-get install --no-install-recommends {package}"));
        }
        found
    }

    /// The daemon that most rows share.
    fn daemon(&mut self) -> Result<&Daemon> {
        if self.daemon.is_none() {
            self.daemon = Some(self.start_daemon("info")?);
        }
        self.daemon.as_ref().context("it was just started")
    }

    fn start_daemon(&self, level: &'static str) -> Result<Daemon> {
        Daemon::start(&self.programs, level)
    }

    /// Ends the shared one, so that it is in nobody's way.
    fn end_daemon(&mut self) {
        self.daemon = None;
    }

    async fn measure(&mut self) -> Result<()> {
        let mut failed = Vec::new();
        for group in Group::value_variants() {
            if !self.how.only.is_empty() && !self.how.only.contains(group) {
                continue;
            }
            let measured = match group {
                Group::Create => rows::create::measure(self).await,
                Group::Command => rows::command::measure(self).await,
                Group::Files => rows::files::measure(self).await,
                Group::Proxy => rows::proxy::measure(self).await,
                Group::Crun => rows::crun::measure(self).await,
                Group::Sdk => rows::sdk::measure(self).await,
                Group::Steps => rows::steps::measure(self).await,
                Group::Memory => rows::memory::measure(self).await,
            };
            if let Err(error) = measured {
                eprintln!("bench: {group:?}: {error:#}");
                failed.push(format!("{group:?}"));
            }
        }
        self.end_daemon();
        ensure!(failed.is_empty(), "these could not be measured: {}", failed.join(", "));
        Ok(())
    }
}

fn main() -> ExitCode {
    let Cli { part, how } = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match (part, runtime) {
        (Some(Part::Nothing), _) => Ok(()),
        (Some(Part::Containers { layer }), _) => rows::crun::serve(&layer),
        (_, Err(error)) => Err(error.into()),
        (Some(Part::Serve { port }), Ok(runtime)) => runtime.block_on(serve::run(port)),
        (None, Ok(runtime)) => runtime.block_on(until_signal(perform(how))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Drops the work, and with it all that it started, when somebody wants us to end.
async fn until_signal(work: impl Future<Output = Result<()>>) -> Result<()> {
    let (mut interrupt, mut terminate, mut hangup) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    tokio::select! {
        result = work => result,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
        _ = hangup.recv() => bail!("the terminal was closed"),
    }
}

async fn perform(mut how: How) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "the daemon that is measured needs root");
    let ours = std::env::current_exe().context("finding this program")?;
    let beside = ours.parent().map(Path::to_owned).unwrap_or_default();
    let programs = how.programs.take().unwrap_or(beside);
    ensure!(programs.join("atolld").is_file(), "there is no atolld in {}; `cargo xtask bench` builds it", programs.display());
    let against = how.against.as_deref().map(Report::read).transpose()?;
    let profile = programs.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let begun = chrono::Utc::now();
    let report = Report { at: begun.to_rfc3339(), machine: Machine::look(&ours, &profile)?, rows: Vec::new(), skipped: Vec::new() };
    let (json, into, python) = (how.json, how.into.clone(), how.python.take());
    let mut bench = Bench { how, ours, programs, python, daemon: None, report };
    let measured = bench.measure().await;
    bench.end_daemon();
    let Bench { ours, mut report, .. } = bench;
    report.machine.look_again(&ours)?;
    // What was measured before a failure is worth keeping.
    let file = into.join(format!("{}.json", begun.format("%Y%m%dT%H%M%SZ")));
    report.write(&file)?;
    match json {
        true => println!("{}", serde_json::to_string(&report)?),
        false => println!("{}", report.table(against.as_ref())),
    }
    eprintln!("bench: samples in {}", file.display());
    measured
}
