//! `atoll sandbox …`, and `atoll run`.

use std::net::IpAddr;

use atoll_types::SandboxId;
use clap::{ArgGroup, Args, Subcommand};

use crate::{copy::End, forward::Ports};

pub const RUN_EXAMPLES: &str = "\
Examples:
  atoll run -- uname -a
  echo 'print(40 + 2)' | atoll run -- python3 -
  atoll run --env NAME=Ann -- sh -c 'echo hello $NAME | tr a-z A-Z'
  atoll run --user root --cwd /etc --timeout 60 -- cat hostname
  atoll run -it -- bash                     a shell in a new sandbox
  id=$(atoll run --keep -- touch x 2>&1)    keep it; this is its ID
  atoll run --json -- ls / | jq .exitCode

Exit status:
  the command's, or 124 out of time, 125 not started, 126 not runnable,
  127 not found";

const PROCESS_STATUS: &str = "the command's, or 124 out of time, 125 not started, 126 not runnable,\n  127 not found";

#[derive(Subcommand)]
pub enum SandboxCommand {
    /// Create a sandbox and print its ID
    ///
    /// It is up when the ID is printed, and lives until its timeout unless it is killed before.
    #[command(after_help = "\
Examples:
  id=$(atoll sandbox create)
  atoll sandbox create --timeout 600 --metadata user=ann --env DEBUG=1
  atoll sandbox create --json | jq -r .sandboxID")]
    Create {
        /// Its template
        #[arg(default_value = "base")]
        template: String,
        #[command(flatten)]
        new: New,
        /// The API's whole answer
        #[arg(long)]
        json: bool,
    },
    /// Run one command in a fresh sandbox, then end the sandbox
    ///
    /// Input, output and exit code are the command's; Ctrl-C ends the command and the sandbox.
    #[command(after_help = RUN_EXAMPLES)]
    Run(Run),
    /// Run a command in a sandbox, with its input and output here
    ///
    /// Pipes and files are passed on as its input, a terminal only with -i or -t. Ctrl-C ends the command; the sandbox lives on.
    #[command(after_help = format!("\
Examples:
  atoll sandbox exec $id ls -l /
  atoll sandbox exec $id -it bash
  atoll sandbox exec $id --user root --cwd /etc --env A=1 -- env
  tar c src | atoll sandbox exec $id -- tar x

Exit status:
  {PROCESS_STATUS}"))]
    Exec {
        /// The sandbox
        #[arg(value_name = "SANDBOX", value_parser = SandboxId::from_client)]
        id: SandboxId,
        #[command(flatten)]
        process: Process,
        /// Environment of the command, may be repeated
        #[arg(short, long, value_name = "NAME=VALUE", value_parser = pair)]
        env: Vec<(String, String)>,
        /// End the command after this many seconds
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=9_999_999))]
        timeout: Option<u64>,
    },
    /// Open a shell in a sandbox
    ///
    /// The best one it has: bash, else sh. The sandbox lives on when the shell ends.
    #[command(after_help = "\
Examples:
  atoll sandbox connect $id
  atoll sandbox connect $id --user root")]
    Connect {
        /// The sandbox
        #[arg(value_name = "SANDBOX", value_parser = SandboxId::from_client)]
        id: SandboxId,
        /// Who to be in it
        #[arg(short, long)]
        user: Option<String>,
    },
    /// Copy files and directories to and from a sandbox
    ///
    /// One side is SANDBOX:PATH, where a relative path begins in the user's home; the other is a path here, or `-` for standard input or
    /// output. What is copied to an existing directory, or to a path that ends in `/`, is put into it under its own name. Directories go in
    /// through `tar`, which both sides need. A path here that has a colon is written with `./` before it.
    #[command(after_help = "\
Examples:
  atoll sandbox cp data.csv $id:
  atoll sandbox cp src $id:/tmp/
  atoll sandbox cp $id:/etc/hostname .
  atoll sandbox cp --user root app.conf $id:/etc/app.conf
  atoll sandbox cp $id:/etc/os-release - | head -1")]
    Cp {
        /// From where
        #[arg(value_name = "SOURCE")]
        from: End,
        /// To where
        #[arg(value_name = "DESTINATION")]
        to: End,
        /// Who reads or writes in the sandbox
        #[arg(short, long)]
        user: Option<String>,
        /// No progress
        #[arg(short, long)]
        quiet: bool,
    },
    /// List sandboxes
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  atoll sandbox ls
  atoll sandbox ls --state running --metadata user=ann
  atoll sandbox ls -q                          the IDs, for scripts
  atoll sandbox ls --json | jq '.[].endAt'"
    )]
    Ls {
        /// Only those in this state
        #[arg(long, value_parser = ["running", "paused"], value_delimiter = ',')]
        state: Vec<String>,
        /// Only those with this metadata, may be repeated
        #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
        metadata: Vec<(String, String)>,
        /// Only their IDs
        #[arg(short, long, conflicts_with = "json")]
        quiet: bool,
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show one sandbox
    #[command(after_help = "\
Examples:
  atoll sandbox info $id
  atoll sandbox info $id --json | jq -r .endAt")]
    Info {
        /// The sandbox
        #[arg(value_name = "SANDBOX", value_parser = SandboxId::from_client)]
        id: SandboxId,
        /// The API's whole answer
        #[arg(long)]
        json: bool,
    },
    /// Show what a sandbox logged
    ///
    /// Logs are kept for a week, also of sandboxes that have ended.
    #[command(after_help = "\
Examples:
  atoll sandbox logs $id
  atoll sandbox logs $id --follow              until the sandbox ends
  atoll sandbox logs $id --json | jq -r .message")]
    Logs {
        /// The sandbox
        #[arg(value_name = "SANDBOX", value_parser = SandboxId::from_client)]
        id: SandboxId,
        /// Go on until the sandbox ends
        #[arg(short, long)]
        follow: bool,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Show what a sandbox uses: processors, memory, disk
    ///
    /// Samples are taken every few seconds and kept for a day.
    #[command(after_help = "\
Examples:
  atoll sandbox metrics $id
  atoll sandbox metrics $id --json | jq '.[-1].memUsed'")]
    Metrics {
        /// The sandbox
        #[arg(value_name = "SANDBOX", value_parser = SandboxId::from_client)]
        id: SandboxId,
        /// All samples, as a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Print the URL of a port of a sandbox
    ///
    /// Whatever listens on that port in the sandbox, on any of its addresses, answers there: HTTP and websockets.
    #[command(after_help = "\
Examples:
  atoll sandbox url $id 8000
  curl $(atoll sandbox url $id 8000)")]
    Url {
        /// The sandbox
        #[arg(value_name = "SANDBOX", value_parser = SandboxId::from_client)]
        id: SandboxId,
        /// The port
        #[arg(value_parser = clap::value_parser!(u16).range(1..))]
        port: u16,
    },
    /// Make ports of a sandbox ports of this machine
    ///
    /// Listens for HTTP and websockets until Ctrl-C. With port 49983 among them, E2B's SDKs use this sandbox whatever they create, if
    /// E2B_DEBUG is `true`; what they send there gets the sandbox's token, what a page in a browser may have sent does not.
    #[command(after_help = "\
Examples:
  atoll sandbox forward $id 8000
  atoll sandbox forward $id 5000 8080:80    8080 here is 80 there
  atoll sandbox forward $id 49983 8000      for SDKs with E2B_DEBUG=true")]
    Forward {
        /// The sandbox
        #[arg(value_name = "SANDBOX", value_parser = SandboxId::from_client)]
        id: SandboxId,
        /// A port, or the one here and the sandbox's; 0 here is a free one
        #[arg(required = true, value_name = "[HERE:]PORT")]
        ports: Vec<Ports>,
        /// Where to listen
        #[arg(long, default_value = "127.0.0.1")]
        address: IpAddr,
    },
    /// Let a sandbox run for this long from now
    ///
    /// Its end moves later or earlier, at most to its team's longest run.
    #[command(after_help = "\
Examples:
  atoll sandbox timeout $id 3600")]
    Timeout {
        /// The sandbox
        #[arg(value_name = "SANDBOX", value_parser = SandboxId::from_client)]
        id: SandboxId,
        /// How long
        #[arg(value_parser = clap::value_parser!(i32).range(1..))]
        seconds: i32,
    },
    /// Wait until a sandbox has ended
    #[command(after_help = "\
Examples:
  atoll sandbox wait $id
  atoll sandbox wait $id --timeout 1 || echo running")]
    Wait {
        /// The sandbox
        #[arg(value_name = "SANDBOX", value_parser = SandboxId::from_client)]
        id: SandboxId,
        /// Give up after this many seconds, with exit code 124
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
    },
    /// End sandboxes
    ///
    /// Prints the ID of each that it ended. Exits with 3 if one was not there, and ends the others all the same.
    #[command(after_help = "\
Examples:
  atoll sandbox kill $id
  atoll sandbox kill --all")]
    Kill {
        /// The sandboxes
        #[arg(value_name = "SANDBOX", value_parser = SandboxId::from_client, required_unless_present = "all", conflicts_with = "all")]
        id: Vec<SandboxId>,
        /// All of your team's
        #[arg(long)]
        all: bool,
    },
}

/// A command in a sandbox of its own.
#[derive(Args)]
#[command(group = ArgGroup::new("fate"))]
pub struct Run {
    /// The sandbox's template
    #[arg(long, value_name = "NAME", default_value = "base")]
    pub template: String,
    #[command(flatten)]
    pub new: New,
    #[command(flatten)]
    pub process: Process,
    /// Keep the sandbox until its timeout, and print its ID to standard error
    #[arg(long, group = "fate")]
    pub keep: bool,
    /// End the sandbox with the command (the default)
    #[arg(long, group = "fate")]
    pub rm: bool,
    /// Print the outcome as JSON: sandboxID, exitCode, stdout, stderr
    #[arg(long, conflicts_with = "tty")]
    pub json: bool,
}

/// A sandbox to be made.
#[derive(Args)]
pub struct New {
    /// End it after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(i32).range(1..))]
    pub timeout: i32,
    /// To find it by, may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub metadata: Vec<(String, String)>,
    /// Environment of everything in it, may be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = pair)]
    pub env: Vec<(String, String)>,
}

/// A command to be run in a sandbox.
#[derive(Args)]
pub struct Process {
    /// Pass on standard input even from a terminal (from pipes and files it always is)
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Who runs it
    #[arg(short, long)]
    pub user: Option<String>,
    /// Where it starts
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// The command, found in the sandbox's PATH; no shell reads it
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("expected NAME=VALUE".into()),
    }
}
